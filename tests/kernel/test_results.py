"""The decoded result of a completion, whatever else is in flight, and the text of its error."""

from __future__ import annotations

import errno
import os
import select
import socket
import subprocess

import pytest

from tests.ringside import take
from uring import NotSupported, Op, Ring, abi, for_fd, ops


def close_all(*pairs: tuple[int, int]) -> None:
    for pair in pairs:
        for fd in pair:
            os.close(fd)


# ---- several under one context ----------------------------------------------------------------------------


def test_pipes_under_one_context_are_told_apart(ring: Ring) -> None:
    for _ in range(3):
        ring.pipe(None)
    ring.pipe(None, 0xFFFF)  # the kernel refuses these flags
    cqes = take(ring, 4)
    pairs = [cqe.result() for cqe in cqes if cqe.is_success]
    assert len({fd for pair in pairs for fd in pair}) == 6
    for source, sink in pairs:
        os.write(sink, b"x")
        assert os.read(source, 1) == b"x"
    close_all(*pairs)
    (failed,) = (cqe for cqe in cqes if not cqe.is_success)
    with pytest.raises(OSError, match="pipe"):
        failed.result()


def test_pipes_that_were_handed_out_are_not_closed_by_stop() -> None:
    with Ring(entries=8) as ring:
        ring.pipe(5)
        ring.pipe(5)
        first, second = take(ring, 2)
        pairs = first.result(), second.result()
    for source, sink in pairs:
        os.write(sink, b"x")
        assert os.read(source, 1) == b"x"
    close_all(*pairs)


def test_answers_that_nothing_tells_apart_are_no_numbers(ring: Ring, tmp_path: os.PathLike[str]) -> None:
    for _ in range(2):
        ring.statx(7, tmp_path)
    for cqe in take(ring, 2):
        with pytest.raises(LookupError, match="request of this result is not"):
            ring.result(cqe)
    for first, second in ((ops.nop(), ops.statx(tmp_path)), (ops.statx(tmp_path), ops.nop())):
        ring.submit(first, 7)
        ring.submit(second, 7)
        for cqe in take(ring, 2):
            with pytest.raises(LookupError, match="request of this result is not"):
                cqe.result()
    # By itself again, the value is as good as any.
    ring.statx(7, tmp_path)
    assert take(ring)[0].result().st_size == os.stat(tmp_path).st_size


def test_a_batch_with_answers(ring: Ring, tmp_path: os.PathLike[str]) -> None:
    size = os.stat(tmp_path).st_size
    batch = ring.batch([(ops.statx(tmp_path), 1), (ops.pipe(), 2), (ops.fsync(0, fixed_file=True), 3)])
    for _ in range(2):
        ring.submit_batch(batch)
        found = {cqe.user_data: cqe for cqe in take(ring, 3)}
        assert found[1].result().st_size == size
        close_all(found[2].result())
        with pytest.raises(OSError, match="fsync"):
            found[3].result()


def test_the_results_of_a_batch_as_one_stay(ring: Ring, pipe: tuple[int, int]) -> None:
    batch = ring.batch([(ops.read(pipe[0], bytearray(9)), 0)])
    cqes = []
    for size in (3, 5):
        os.write(pipe[1], bytes(size))
        ring.submit_as_one(batch, 1)
        cqes += take(ring)
    assert [cqe.result() for cqe in cqes] == [[3], [5]]


def test_a_result_is_there_after_later_waits(ring: Ring, tmp_path: os.PathLike[str]) -> None:
    ring.statx(1, tmp_path)
    ring.openat(2, "/proc/missing")
    stat, missing = sorted(take(ring, 2), key=lambda cqe: cqe.user_data)
    for i in range(3):
        ring.nop(i)
        take(ring)
    assert ring.result(stat).st_size == os.stat(tmp_path).st_size
    with pytest.raises(FileNotFoundError, match="openat"):
        ring.result(missing)


def test_results_of_completions_that_waited_their_turn(ring: Ring, tmp_path: os.PathLike[str]) -> None:
    for i in range(4):
        ring.statx(i, tmp_path)
    ring.flush()
    for _ in range(4):
        (cqe,) = ring.wait(1, timeout=20.0)
        assert cqe.result().st_size == os.stat(tmp_path).st_size


def test_a_decoder_is_called_when_the_result_is_asked_for(ring: Ring) -> None:
    """So that one which fails, or uses the ring, takes no other completion with it."""

    def decode(res: int) -> int:
        calls.append(res)
        raise ArithmeticError

    calls: list[int] = []
    op = Op("program's", ops.nop().fields, decode=decode)
    request, other = ring.request(op), ring.nop()
    ring.submit(op, 7)
    mine = next(cqe for cqe in take(ring, 3) if cqe.user_data == 7)
    assert not calls
    assert other.result() == 0
    for result in (request.result, mine.result):
        with pytest.raises(ArithmeticError):
            result()
    assert calls == [0, 0]


# ---- errors -----------------------------------------------------------------------------------------------


def failure(ring: Ring) -> OSError:
    (cqe,) = take(ring)
    assert cqe.res < 0
    with pytest.raises(OSError) as caught:
        ring.result(cqe)
    assert caught.value.errno == -cqe.res
    return caught.value


@pytest.mark.parametrize("ctx", [1, 22, None])
def test_a_failed_path_is_named(ring: Ring, ctx: int | None) -> None:
    ring.openat(ctx, "/proc/missing")
    error = failure(ring)
    assert error.filename == "/proc/missing"
    assert str(error) == "[Errno 2] No such file or directory: '/proc/missing': openat"
    ring.renameat(ctx, "/proc/missing", "/proc/neither")
    error = failure(ring)
    assert (error.filename, error.filename2) == ("/proc/missing", "/proc/neither")


def test_what_is_no_descriptor_is_not_called_one(ring: Ring) -> None:
    for queue in (
        lambda: ring.socket(None, socket.AF_INET, socket.SOCK_STREAM, 99),
        lambda: ring.waitid(None, os.P_PID, (1 << 22) + 1, os.WEXITED),
        lambda: ring.remove_buffers(None, 3, 77),
        lambda: ring.close_direct(None, 5),
    ):
        queue()
        error = failure(ring)
        assert error.fd is None, error
        assert "on fd" not in str(error)


def test_the_descriptor_and_the_address_are_named(ring: Ring) -> None:
    with socket.socket() as taken, socket.socket() as other:
        taken.bind(("127.0.0.1", 0))
        ring.connect(9, other, socket.AF_INET, taken.getsockname())
        error = failure(ring)
        assert isinstance(error, ConnectionRefusedError)
        assert (error.fd, error.address) == (other.fileno(), taken.getsockname())
        assert f"connect on fd {other.fileno()}, address {taken.getsockname()!r}" in str(error)
        ring.bind(for_fd(3), other, socket.AF_INET, taken.getsockname())
        assert f"address {taken.getsockname()!r}" in str(failure(ring))


def test_operations_without_memory_are_named_too(ring: Ring, pipe: tuple[int, int]) -> None:
    ring.fsync(1, pipe[0])
    assert f"fsync on fd {pipe[0]}" in str(failure(ring))
    for _ in range(2):
        ring.fsync(2, pipe[0])
    for cqe in take(ring, 2):
        with pytest.raises(OSError, match=f"fsync on fd {pipe[0]}"):
            cqe.result()
    ring.fsync(3, pipe[0])
    ring.poll_add(3, pipe[0], select.POLLIN)
    cqe = take(ring)[0]
    with pytest.raises(OSError, match=r"^\[Errno 22\] Invalid argument$"):  # of two kinds nothing is said
        cqe.result()
    os.write(pipe[1], b"x")
    assert take(ring)[0].result() == select.POLLIN


def test_the_kernels_refusal_is_not_supported(ring: Ring) -> None:
    near, far = socket.socketpair()
    with near, far:
        ring.send_zc(1, near, b"x")
        error = failure(ring)
        take(ring)  # the notification
    assert isinstance(error, NotSupported)
    assert (error.errno, error.feature, error.op) == (errno.EOPNOTSUPP, "send_zc", "send_zc")


def test_an_interrupted_wait_for_a_process_says_no_descriptor(ring: Ring) -> None:
    with subprocess.Popen(["sleep", "1000"]) as child:
        context = ring.waitid(None, os.P_PID, child.pid, os.WEXITED)
        ring.async_cancel(1, context)
        cqes = {cqe.user_data: cqe for cqe in take(ring, 2)}
        child.kill()
        with pytest.raises(OSError, match=r"waitid$") as caught:
            cqes[context].result()
        assert caught.value.errno == errno.ECANCELED
        assert abi.Op(cqes[context].op) is abi.Op.IORING_OP_WAITID
