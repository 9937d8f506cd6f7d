"""A client's beginning as one chain: connect, send, receive, each when the one before has succeeded.

The socket comes first, because the others name its descriptor; with a slot in the ring's own table of files,
which is known beforehand, even that can be in the chain.

Run: python examples/uring/tcp_client.py
"""

import socket
import threading

from uring import Ring, ops

REQUEST = b"GET / HTTP/1.0\r\n\r\n"
ANSWER = b"HTTP/1.0 200 OK\r\n\r\nhello"


def serve(listener: socket.socket, clients: int) -> None:
    for _ in range(clients):
        connection, _ = listener.accept()
        with connection:
            assert connection.recv(100) == REQUEST
            connection.sendall(ANSWER)


def results(ring: Ring, n: int) -> dict[int, int]:
    found: dict[int, int] = {}
    while len(found) < n:
        found |= {cqe.user_data: cqe.res for cqe in ring.wait(timeout=None)}
    return found


def with_a_descriptor(ring: Ring, address: tuple[str, int]) -> None:
    ring.tcp4_socket(1)
    fd = results(ring, 1)[1]
    buffer = bytearray(100)
    ring.submit_linked(
        [
            (ops.connect(fd, socket.AF_INET, address), 2),
            (ops.send(fd, REQUEST), 3),
            (ops.recv(fd, buffer), 4),
            (ops.close(fd), 5),
        ]
    )
    found = results(ring, 4)
    assert found == {2: 0, 3: len(REQUEST), 4: len(ANSWER), 5: 0}
    print(f"connected, sent {found[3]} bytes, received {bytes(buffer[: found[4]])!r}")


def without_one(ring: Ring, address: tuple[str, int]) -> None:
    """Slot 0 of the table: no descriptor of this process is ever used."""
    ring.register_files_sparse(1)
    buffer = bytearray(100)
    ring.submit_linked(
        [
            (ops.tcp4_socket_direct(file_index=0), 1),
            (ops.connect(0, socket.AF_INET, address, fixed_file=True), 2),
            (ops.send(0, REQUEST, fixed_file=True), 3),
            (ops.recv(0, buffer, fixed_file=True), 4),
            (ops.close_direct(0), 5),
        ]
    )
    found = results(ring, 5)
    assert bytes(buffer[: found[4]]) == ANSWER
    print("the same in one chain, on a socket without a descriptor")


def refused(ring: Ring) -> None:
    """What follows a request that fails is cancelled."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
    with socket.socket() as sock:
        ring.submit_linked([(ops.connect(sock, socket.AF_INET, address), 1), (ops.send(sock, b"x"), 2)])
        for cqe in sorted(ring.wait(timeout=None), key=lambda cqe: cqe.user_data):
            try:
                ring.result(cqe)
            except OSError as error:
                print(f"request {cqe.user_data}: {error.strerror}")


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
