"""Memory that the kernel chooses when data is there: buffer rings, bundles, groups of many sizes.

A receive that waits with a buffer of its own holds memory for as long as nobody sends. With a group of
buffers the kernel takes one when data has come, says which, and gets it back when its data was read.

Run: python examples/uring/buffer_rings.py
"""

import socket

from uring import BufferGroupsConfig, Ring

GROUP = 1


def selected(ring: Ring, near: socket.socket, far: socket.socket) -> None:
    buffers = ring.register_buf_ring(8, GROUP, 1024)
    ring.recv(1, far, buffer_group=GROUP)
    near.sendall(b"into whichever")
    (cqe,) = ring.wait(timeout=None)
    data = bytes(buffers.views[cqe.buf_id][: cqe.res])
    print(f"the kernel took a buffer for {data!r}")
    buffers.put(cqe.buf_id)


def exhausted(ring: Ring, near: socket.socket, far: socket.socket) -> None:
    """A group without a buffer fails at once, and the data stays in the socket."""
    ring.register_buf_ring(1, GROUP + 1, 4)
    near.sendall(b"eight..!")
    ring.recv(1, far, buffer_group=GROUP + 1)
    (first,) = ring.wait(timeout=None)
    ring.recv(2, far, buffer_group=GROUP + 1)
    (second,) = ring.wait(timeout=None)
    try:
        ring.result(second)
    except OSError as error:
        print(f"no buffer left: {error.strerror}")
    ring.buf_ring(GROUP + 1).put(first.buf_id)
    ring.recv(3, far, buffer_group=GROUP + 1)
    (third,) = ring.wait(timeout=None)
    print(f"and with one again: {third.res} bytes")


def bundled(ring: Ring, near: socket.socket, far: socket.socket) -> None:
    """A bundle fills as many buffers as there is data for, in one completion."""
    ring.register_buf_ring(8, GROUP + 2, 10)
    text = b"one completion brings four whole buffers"
    near.sendall(text)
    ring.recv_bundle(1, far, GROUP + 2)
    (cqe,) = ring.wait(timeout=None)
    bundle = ring.bundle_iterator(cqe, GROUP + 2)
    assert bundle is not None
    assert b"".join(bundle.all()) == text
    print(f"a bundle of {bundle.count} buffers: {bundle.total_bytes} bytes")
    bundle.recycle()


def sized() -> None:
    """Groups of several sizes, made at the start, of which the smallest that fits is chosen."""
    config = BufferGroupsConfig(pico_num=16, nano_num=8, micro_num=4)
    with Ring(entries=8, multi_size_buffer=1, buffer_groups=config) as ring:
        groups = ring.buffer_groups
        found = {need: groups.group_for(need).size for need in (10, 100, 500)}
        print(f"groups of {groups.sizes} bytes; for {list(found)} bytes those of {list(found.values())}")


def main() -> None:
    near, far = socket.socketpair()
    with near, far, Ring(entries=8) as ring:
        selected(ring, near, far)
        exhausted(ring, near, far)
        bundled(ring, near, far)
    sized()


if __name__ == "__main__":
    main()
