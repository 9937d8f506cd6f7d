"""A TCP echo server on one ring and one thread: multishot accept, receives into chosen buffers, sends.

Each connection has one request in flight: a receive, or the send of what was received. A dict has the
function to call when a request completes.

Run: python examples/uring/echo_tcp.py [--port 8000]
"""

import argparse
import errno
import os
import socket
from functools import partial

from uring import CQEView, Request, Ring

GROUP = 1


class Server:
    def __init__(self, ring: Ring, listener: socket.socket) -> None:
        self.ring = ring
        self.listener = listener
        self.buffers = ring.register_buf_ring(64, GROUP, 4096)
        self.then: dict[Request, partial[None]] = {}
        self.starving: list[int] = []

    def serve(self) -> None:
        self.accept()
        for cqe in self.ring.completions():
            if cqe.request is not None:
                then = self.then[cqe.request] if cqe.has_more else self.then.pop(cqe.request)
                then(cqe)

    def accept(self) -> None:
        self.then[self.ring.submit_accept_multishot(self.listener)] = partial(self.on_accepted)

    def on_accepted(self, cqe: CQEView) -> None:
        if cqe.is_success:
            self.receive(cqe.res)
        if not cqe.has_more:
            self.accept()

    def receive(self, fd: int) -> None:
        self.then[self.ring.recv(fd, buffer_group=GROUP)] = partial(self.on_received, fd)

    def on_received(self, fd: int, cqe: CQEView) -> None:
        if cqe.res == -errno.ENOBUFS:
            self.starving.append(
                fd
            )  # every buffer is being sent: the next one that comes back is for this one
        elif cqe.res <= 0:
            os.close(fd)
        else:
            self.send(fd, cqe.buf_id, self.buffers.views[cqe.buf_id][: cqe.res])

    def send(self, fd: int, buf_id: int, data: memoryview) -> None:
        self.then[self.ring.send(fd, data)] = partial(self.on_sent, fd, buf_id, data)

    def on_sent(self, fd: int, buf_id: int, data: memoryview, cqe: CQEView) -> None:
        if 0 <= cqe.res < len(data):
            self.send(fd, buf_id, data[cqe.res :])
            return
        self.buffers.put(buf_id)
        if self.starving:
            self.receive(self.starving.pop())
        if cqe.res < 0:
            os.close(fd)
        else:
            self.receive(fd)


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
            server.serve()
        except KeyboardInterrupt:
            print("stopped")


if __name__ == "__main__":
    main()
