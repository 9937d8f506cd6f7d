"""UDP ping-pong on one ring: a receive that gives the sender's address, and the answer to it.

Run: python examples/uring/echo_udp.py
"""

import socket

from uring import Message, Ring
from uring.kernel.addresses import SOCKADDR_SIZE

ROUNDS = 5


def main() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
        Ring(entries=8) as ring,
    ):
        server.bind(("127.0.0.1", 0))
        client.bind(("127.0.0.1", 0))
        client.connect(server.getsockname())

        # The server's side: a message with room for the peer's address, and the ball's buffer.
        ball = bytearray(100)
        message = Message([ball], writable=True, name_size=SOCKADDR_SIZE)
        serving = ring.recvmsg(server, message)
        # The client's side: it is connected, so that a plain send and receive will do.
        back = bytearray(100)
        ring.send(client, b"ping 0")
        receiving = ring.recv(client, back)

        returned = 0
        for cqe in ring.completions():
            if cqe.request is serving:
                assert message.peer == client.getsockname()
                answer = bytes(ball[: cqe.res]).replace(b"ping", b"pong")
                ring.sendto(server, answer, message.peer)
                message.reset(SOCKADDR_SIZE)
                serving = ring.recvmsg(server, message)
            elif cqe.request is receiving:
                print(bytes(back[: cqe.res]).decode())
                returned += 1
                if returned == ROUNDS:
                    break
                ring.send(client, f"ping {returned}".encode())
                receiving = ring.recv(client, back)
        serving.cancel()


if __name__ == "__main__":
    main()
