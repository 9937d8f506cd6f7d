"""Memory that the kernel chooses when data is there: buffer rings, bundles, groups of many sizes.

A receive that waits with a buffer of its own holds memory until data comes. With a group of
buffers the kernel takes one when data has come, says which, and gets it back when its data was read.

Run: python examples/uring/buffer_rings.py
"""

import socket

from uring import BufferGroupsConfig, BundleIterator, Ring

GROUP = 1


def selected(ring: Ring, near: socket.socket, far: socket.socket) -> None:
    with ring.register_buf_ring(8, GROUP, 1024) as group:
        ring.recv(far, buffer_group=GROUP)
        near.sendall(b"into whichever")
        for cqe in ring.completions():
            with group.borrow(cqe) as data:
                print(f"the kernel took a buffer for {bytes(data)!r}")


def exhausted(ring: Ring, near: socket.socket, far: socket.socket) -> None:
    """A group without a buffer fails at once, and the data stays in the socket."""
    with ring.register_buf_ring(1, GROUP, 4) as group:
        near.sendall(b"eight..!")
        ring.recv(far, buffer_group=GROUP)
        (cqe,) = ring.drain()
        with group.borrow(cqe):
            try:
                ring.recv(far, buffer_group=GROUP).wait()
            except OSError as error:
                print(f"no buffer left: {error.strerror}")
        print(f"and with one again: {ring.recv(far, buffer_group=GROUP).wait()} bytes")


def bundled(ring: Ring, near: socket.socket, far: socket.socket) -> None:
    """A bundle fills as many buffers as there is data for, in one completion."""
    with ring.register_buf_ring(8, GROUP, 10) as group:
        text = b"one completion brings four whole buffers"
        near.sendall(text)
        ring.recv_bundle(far, GROUP)
        (cqe,) = ring.drain()
        with BundleIterator.of(cqe, group) as bundle:
            assert b"".join(bundle) == text
            print(f"a bundle of {bundle.count} buffers: {bundle.total_bytes} bytes")


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
