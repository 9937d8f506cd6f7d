"""The types of the ring's methods, to type checkers. ``make check`` reads this file; nothing runs it."""

# pyright: reportUnnecessaryTypeIgnoreComment=true

import socket
from collections.abc import Callable
from typing import assert_type

from uring import Batch, BufferGroup, CQEView, Ctx, Op, Options, Request, Ring, SQEContext, abi, for_fd, ops
from uring.ops import StatxResult


def of_each_shape(ring: Ring, fd: int, buffer: bytearray) -> None:
    assert_type(ring.nop(None), SQEContext)
    assert_type(ring.nop(7, result=1, sqe_flags=16, personality=1), SQEContext)
    assert_type(ring.read(None, fd, buffer, offset=0, n=16), SQEContext)
    assert_type(ring.read(for_fd(fd), fd, buffer_group=1), SQEContext)
    assert_type(ring.recv(None, fd, buffer), SQEContext)
    assert_type(ring.openat(None, b"/etc/hostname", file_mode=0o600), SQEContext)
    assert_type(ring.tcp4_socket_direct(None, file_index=3), SQEContext)
    assert_type(ring.submit_recv_multishot(for_fd(fd), fd, 1), SQEContext)
    assert_type(ring.accept(None, fd, with_address=True), SQEContext)
    assert_type(ring.getsockopt(None, fd, 1, 2, 64), SQEContext)
    assert_type(ring.getxattr(None, "/", "user.a", buffer), SQEContext)
    assert_type(ring.files_update(None, [fd]), SQEContext)
    assert_type(ring.wait(), list[CQEView])
    assert_type(Ring.read(ring, None, fd, buffer), SQEContext)


def without_a_context(ring: Ring, fd: int, buffer: bytearray) -> None:
    assert_type(ring.nop(), Request[int])
    assert_type(ring.recv(fd, buffer), Request[int])
    assert_type(ring.recv(fd, buffer).result(), int)
    assert_type(ring.statx("/"), Request[StatxResult])
    assert_type(ring.pipe(pipe_flags=0).wait(timeout=1), tuple[int, int])
    assert_type(ring.submit(ops.pipe()), Request[tuple[int, int]])
    assert_type(ring.submit(ops.pipe(), 7), SQEContext)
    assert_type(ring.submit_all([ops.statx("/"), ops.statx("/etc")]), list[Request[StatxResult]])
    for cqe in ring.completions(timeout=1.0):
        assert_type(cqe, CQEView)
    with ring.chain() as chain:
        ring.write(fd, b"data")
    assert_type(chain.requests[0].done(), bool)


def mistakes(ring: Ring, fd: int, buffer: bytearray) -> None:
    """Each line is an error to both checkers: mypy and pyright complain of a comment that hides none."""
    ring.nop("ctx")  # type: ignore
    ring.nop(None, flags=1)  # type: ignore
    ring.read(None)  # type: ignore
    ring.read(None, "fd", buffer)  # type: ignore
    ring.read(None, fd, buffer, 16)  # type: ignore
    ring.recv(None, fd, buffer, rw_flags=1)  # type: ignore
    ring.listen(None, fd, "backlog")  # type: ignore
    ring.close(None, fd, fixed_file=True)  # type: ignore
    ring.close_direct(None, personality="root")  # type: ignore
    ring.receive(None, fd)  # type: ignore


def completions(ring: Ring, group: BufferGroup) -> None:
    for cqe in ring.wait():
        assert_type(cqe.res, int)
        assert_type(cqe.user_data, int)
        assert_type(cqe.flags, abi.CqeFlag)
        assert_type(cqe.op, abi.Op | int)
        assert_type(cqe.request, Request[object] | None)
        with group.borrow(cqe) as view:
            assert_type(view, memoryview)
        cqe.res = 1  # type: ignore
        cqe.result() + 1  # type: ignore
    for direct in ring.wait_direct(timeout=None):
        assert_type(direct.user_data + direct.res + direct.fd, int)


def slots(ring: Ring) -> None:
    mine = ring.ext_sqe().ctx(refs=1, vals=1)
    mine.fn, mine.ref1, mine.val1 = print, "anything", 5
    mine.fn, mine.val1 = 5, "five"  # type: ignore


def what_slots_hold(mine: Ctx) -> None:
    assert_type(mine.fn, Callable[..., object] | None)
    anything: object = mine.ref1
    print(anything)
    assert_type(mine.val1, int)
    mine.ref1.upper()  # type: ignore
    mine.fn()  # type: ignore


def options() -> None:
    Ring(entries=64, cqe32=True, drain_timeout=0.5, attach_wq=3)
    Ring(Options(entries=64))
    Ring(entires=64)  # type: ignore
    Ring(entries="64")  # type: ignore
    Ring(64)  # type: ignore


def addresses(ring: Ring, sock: socket.socket) -> None:
    assert_type(ring.connect(sock, ("127.0.0.1", 80)), Request[int])
    assert_type(ring.connect(sock, socket.AF_INET, ("127.0.0.1", 80)), Request[int])
    assert_type(ring.sendto(sock, b"data", "/path"), Request[int])
    assert_type(ring.batch([ops.nop(), (ops.nop(), 7)]), Batch)
    ring.connect(sock, ("127.0.0.1", "80"))  # type: ignore
    ring.batch([7])  # type: ignore


def of_operations(fd: int) -> None:
    assert_type(ops.recv(fd, bytearray(8), sqe_flags=4, personality=1), Op[int])
    ops.recv(fd, bytearray(8), offset=1)  # type: ignore
