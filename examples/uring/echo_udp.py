"""UDP ping-pong on one ring: a receive that says where a datagram came from, and the answer to there.

Run: python examples/uring/echo_udp.py
"""

import socket

from uring import Message, Ring, ops
from uring.kernel.addresses import SOCKADDR_SIZE, decode_address

ROUNDS = 5
SERVER, CLIENT, SENT = 1, 2, 3


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
        ring.recvmsg(SERVER, server, message)
        # The client's side: it is connected, so that a plain send and receive will do.
        back = bytearray(100)
        ring.send(SENT, client, b"ping 0")
        ring.recv(CLIENT, client, back)

        returned = 0
        while returned < ROUNDS:
            for cqe in ring.wait(timeout=None):
                if cqe.user_data == SERVER:
                    peer = decode_address(message.name)
                    assert peer == client.getsockname()
                    answer = bytes(ball[: cqe.res]).replace(b"ping", b"pong")
                    ring.submit(ops.sendto(server, answer, socket.AF_INET, peer), SENT)
                    message.reset(SOCKADDR_SIZE)
                    ring.recvmsg(SERVER, server, message)
                elif cqe.user_data == CLIENT:
                    print(bytes(back[: cqe.res]).decode())
                    returned += 1
                    if returned < ROUNDS:
                        ring.send(SENT, client, f"ping {returned}".encode())
                        ring.recv(CLIENT, client, back)
        ring.async_cancel(4, SERVER)


if __name__ == "__main__":
    main()
