"""The start of a client as one chain: connect, send, receive, each when the one before has succeeded.

The socket comes first, because the others name its descriptor; with a slot in the ring's own table of files,
which is known beforehand, even that can be in the chain.

Run: python examples/uring/tcp_client.py
"""

import socket
import threading

from uring import Ring

REQUEST = b"GET / HTTP/1.0\r\n\r\n"
ANSWER = b"HTTP/1.0 200 OK\r\n\r\nhello"


def serve(listener: socket.socket, clients: int) -> None:
    for _ in range(clients):
        connection, _ = listener.accept()
        with connection:
            assert connection.recv(100) == REQUEST
            connection.sendall(ANSWER)


def with_a_descriptor(ring: Ring, address: tuple[str, int]) -> None:
    fd = ring.tcp4_socket().wait()
    buffer = bytearray(100)
    with ring.chain():
        ring.connect(fd, address)
        sent = ring.send(fd, REQUEST)
        received = ring.recv(fd, buffer)
        ring.close(fd)
    ring.drain()
    print(f"connected, sent {sent.result()} bytes, received {bytes(buffer[: received.result()])!r}")


def without_one(ring: Ring, address: tuple[str, int]) -> None:
    """Slot 0 of the table: no descriptor of this process is ever used."""
    buffer = bytearray(100)
    with ring.register_files_sparse(1):
        with ring.chain():
            ring.tcp4_socket_direct(file_index=0)
            ring.connect(0, address, fixed_file=True)
            ring.send(0, REQUEST, fixed_file=True)
            received = ring.recv(0, buffer, fixed_file=True)
            ring.close_direct(0)
        ring.drain()
    assert bytes(buffer[: received.result()]) == ANSWER
    print("the same in one chain, on a socket without a descriptor")


def refused(ring: Ring) -> None:
    """What follows a request that fails is cancelled."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
    with socket.socket() as sock:
        with ring.chain() as chain:
            ring.connect(sock, address)
            ring.send(sock, b"x")
        ring.drain()
        for request in chain:
            try:
                request.result()
            except OSError as error:
                print(f"{request.name}: {error.strerror}")


def main() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, Ring(entries=8) as ring:
        server = threading.Thread(target=serve, args=(listener, 2))
        server.start()
        with_a_descriptor(ring, listener.getsockname())
        without_one(ring, listener.getsockname())
        server.join()
        refused(ring)


if __name__ == "__main__":
    main()
