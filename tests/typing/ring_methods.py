"""What type checkers know of the ring's methods. ``make check`` reads this file; nothing runs it."""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from typing import assert_type

from uring import CQEView, Op, Request, Ring, SQEContext, for_fd, ops
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


def of_operations(fd: int) -> None:
    assert_type(ops.recv(fd, bytearray(8), sqe_flags=4, personality=1), Op[int])
    ops.recv(fd, bytearray(8), offset=1)  # type: ignore
