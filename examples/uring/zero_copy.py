"""Sends that take the data from where it lies: each completes twice.

The first completion says how much was sent, the second, the notification, that the memory is free again.
Until then the ring holds the memory, and what is in it must not change. (Over loopback the kernel copies
all the same.)

Run: python examples/uring/zero_copy.py
"""

import socket

from uring import Ring, ZCHandler, ZCTracker, dispatch


def by_hand(ring: Ring, near: socket.socket, far: socket.socket) -> None:
    data = bytearray(b"zero copies of this")
    request = ring.send_zc(near, data)
    try:
        data.clear()
    except BufferError:
        print("the ring holds the memory")
    for cqe in ring.completions():
        if cqe.is_notification:
            print("notification: the memory is free")
        else:
            print(f"sent {cqe.res} bytes; more to come: {cqe.has_more}")
    data.clear()
    assert request.result() == 19
    assert far.recv(100) == b"zero copies of this"


def tracked(ring: Ring, near: socket.socket, far: socket.socket) -> None:
    """A tracker pairs the completions of many sends, and calls a handler."""
    tracker = ZCTracker(ring, ring.pools)
    told: list[tuple[str, int]] = []
    handler = ZCHandler.from_callbacks(
        on_completed=lambda result: told.append(("sent", result)),
        on_notification=lambda result: told.append(("free", result)),
    )
    for i in range(3):
        tracker.send_zc(near, bytes([65 + i]) * 10, handler)
    for cqe in ring.completions():
        dispatch(cqe)
    assert sorted(told) == [("free", 10)] * 3 + [("sent", 10)] * 3
    received = b""
    while len(received) < 30:
        received += far.recv(100)
    print(f"three tracked sends, {len(told)} completions, {received.decode()}")


def registered(ring: Ring, near: socket.socket, far: socket.socket) -> None:
    """Out of a registered buffer not even the pages need to be pinned for each send."""
    ring.register_buffers([bytearray(b"0123456789")])
    tracker = ZCTracker(ring, ring.pools)
    tracker.send_zc_fixed(near, 0, 3, 4, ZCHandler())
    for cqe in ring.completions():
        dispatch(cqe)
    print(f"out of a registered buffer: {far.recv(100).decode()}")


def main() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    with near, far, Ring(entries=8) as ring:
        by_hand(ring, near, far)
        tracked(ring, near, far)
        registered(ring, near, far)


if __name__ == "__main__":
    main()
