"""A TCP echo server on one ring and one thread: multishot accept, receives into chosen buffers, sends.

Each connection has one request in flight: a receive, or the send of what was received. Its context says
which, and on which descriptor.

Run: python examples/uring/echo_tcp.py [--port 8000]
"""

import argparse
import os
import socket

from uring import CQEView, Ring, abi, pack_direct

GROUP = 1
RECV, SEND = int(abi.IORING_OP_RECV), int(abi.IORING_OP_SEND)
ACCEPT = int(abi.IORING_OP_ACCEPT)


class Server:
    def __init__(self, ring: Ring, listener: socket.socket) -> None:
        self.ring = ring
        self.listener = listener
        self.buffers = ring.register_buf_ring(64, GROUP, 4096)
        self.sending: dict[int, tuple[int, memoryview]] = {}  # by descriptor: the buffer, what is left of it
        self.starving: list[int] = []
        self.accept()

    def accept(self) -> None:
        fd = self.listener.fileno()
        self.ring.submit_accept_multishot(pack_direct(ACCEPT, fd=fd), fd)

    def receive(self, fd: int) -> None:
        self.ring.recv(pack_direct(RECV, buf_group=GROUP, fd=fd), fd, buffer_group=GROUP)

    def on_completion(self, cqe: CQEView) -> None:
        if cqe.op == ACCEPT:
            if cqe.res >= 0:
                self.receive(cqe.res)
            if not cqe.has_more:
                self.accept()
        elif cqe.op == RECV:
            self.on_received(cqe)
        else:
            self.on_sent(cqe)

    def on_received(self, cqe: CQEView) -> None:
        if (
            cqe.res == -105
        ):  # ENOBUFS: every buffer is being sent; the next one that comes back is for this one
            self.starving.append(cqe.fd)
            return
        if cqe.res <= 0:
            os.close(cqe.fd)
            return
        self.sending[cqe.fd] = cqe.buf_id, self.buffers.views[cqe.buf_id][: cqe.res]
        self.send(cqe.fd)

    def send(self, fd: int) -> None:
        self.ring.send(pack_direct(SEND, fd=fd), fd, self.sending[fd][1])

    def on_sent(self, cqe: CQEView) -> None:
        buf_id, rest = self.sending.pop(cqe.fd)
        if 0 <= cqe.res < len(rest):
            self.sending[cqe.fd] = buf_id, rest[cqe.res :]
            self.send(cqe.fd)
            return
        self.buffers.put(buf_id)
        if self.starving:
            self.receive(self.starving.pop())
        if cqe.res < 0:
            os.close(cqe.fd)
        else:
            self.receive(cqe.fd)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    with socket.create_server(("127.0.0.1", options.port)) as listener, Ring(entries=256) as ring:
        host, port = listener.getsockname()
        server = Server(ring, listener)
        print(f"listening on {host}:{port}", flush=True)
        try:
            while True:
                for cqe in ring.wait(max_cqes=256, timeout=None):
                    server.on_completion(cqe)
        except KeyboardInterrupt:
            print("stopped")


if __name__ == "__main__":
    main()
