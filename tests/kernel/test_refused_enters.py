"""Enters that the kernel refuses for now, at the waits of `uring.Ring`.

Nothing makes the kernel refuse one at a certain moment, so its answer is scripted. In `tests.faults` the
system call fails.
"""

from __future__ import annotations

import errno
import os
import time
from math import inf
from typing import TYPE_CHECKING, Any

import pytest

from uring import Ring, ops
from uring.kernel import refusals
from uring.kernel.ring import KernelRing

if TYPE_CHECKING:
    from collections.abc import Callable

PASSING = pytest.mark.parametrize(
    "error", [errno.EAGAIN, errno.EBUSY, errno.ENOMEM, errno.EINTR], ids=errno.errorcode.get
)
ISSUERS = pytest.mark.parametrize("several", [False, True], ids=["one", "several"])


def refusing(reap: Callable[[float], int], error: int, times: float = 3) -> Callable[[float], int]:
    """The next enters fail, this many."""
    left = times

    def refused(timeout: float) -> int:
        nonlocal left
        left -= 1
        return -error if left >= 0 else reap(timeout)

    return refused


def refuse(ring: Any, error: int, times: float = 3) -> None:
    ring._reap = refusing(ring._reap, error, times)


@PASSING
@ISSUERS
def test_a_refused_enter_is_no_result_of_a_request(error: int, several: bool) -> None:
    with Ring(entries=8, multi_issuers=several) as ring:
        refuse(ring, error)
        assert ring.nop().wait() == 0
        refuse(ring, error)
        assert ring.nop().wait(30) == 0


@PASSING
@ISSUERS
def test_waits_go_on_until_there_is_a_completion(error: int, several: bool) -> None:
    with Ring(entries=8, multi_issuers=several) as ring:
        for timeout in (None, 30):
            ring.nop(1)
            refuse(ring, error)
            assert [cqe.user_data for cqe in ring.wait(timeout=timeout)] == [1]
        ring.nop(2)
        refuse(ring, error)
        assert [cqe.user_data for cqe in ring.completions()] == [2]
        ring.nop(3)
        refuse(ring, error)
        assert [cqe.user_data for cqe in ring.drain()] == [3]


@PASSING
@ISSUERS
def test_without_a_timeout_nothing_has_come_yet(error: int, several: bool) -> None:
    with Ring(entries=8, multi_issuers=several) as ring:
        ring.nop(1)
        refuse(ring, error, 1)
        assert ring.wait() == []
        assert [cqe.user_data for cqe in ring.wait(timeout=30)] == [1]


@PASSING
def test_a_flush_leaves_them_queued(error: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with Ring(entries=8) as ring:
        request = ring.nop()
        with monkeypatch.context() as patch:
            patch.setattr(ring._kernel, "flush", lambda run_work: -error)
            ring.flush()
        assert request.wait() == 0


@PASSING
@ISSUERS
def test_a_stop_ends_what_is_in_flight(error: int, several: bool, pipe: tuple[int, int]) -> None:
    ring = Ring(entries=8, multi_issuers=several)
    ring.start()
    request = ring.read(pipe[0], bytearray(8))
    ring.flush()
    kernel: Any = ring._kernel
    kernel.reap = refusing(kernel.reap, error)
    ring.stop()
    assert request.done()
    assert kernel.closed


def test_refusals_between_enters_that_succeed_do_not_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "REFUSED_SECONDS", 0.02)
    with Ring(entries=8) as ring:
        reap = ring._reap
        end = time.monotonic() + 0.1
        while time.monotonic() < end:
            ring._reap = refusing(reap, errno.EAGAIN, 1)
            assert ring.nop().wait() == 0


def test_a_cancel_at_once_finds_what_was_refused_before(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Ring(entries=8) as ring:
        request = ring.read(pipe[0], bytearray(8))
        monkeypatch.setattr(ring._kernel, "flush", refusing(ring._kernel.flush, errno.ENOMEM))
        assert ring.sync_cancel(fd=pipe[0]) == 0
        with pytest.raises(OSError, match=os.strerror(errno.ECANCELED)):
            request.wait()


def test_a_cancel_at_once_raises_an_error_that_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "REFUSED_SECONDS", 0.02)
    with Ring(entries=8) as ring, monkeypatch.context() as patch:
        request = ring.nop()
        patch.setattr(ring._kernel, "flush", lambda run_work: -errno.ENOMEM)
        with pytest.raises(OSError, match=os.strerror(errno.ENOMEM)):
            ring.sync_cancel(anything=True)
        patch.undo()
        assert request.wait() == 0


def test_waits_of_several_threads_end_by_an_error_that_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "REFUSED_SECONDS", 0.02)
    with Ring(entries=8, multi_issuers=True) as ring:
        with monkeypatch.context() as patch:
            patch.setattr(KernelRing, "wait", lambda self, timeout: -errno.EAGAIN)
            with pytest.raises(OSError, match=os.strerror(errno.EAGAIN)):
                ring.wait(timeout=10)
        assert ring.nop().wait() == 0


@ISSUERS
def test_an_error_that_lasts_is_raised_and_nothing_is_lost(
    several: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusals, "REFUSED_SECONDS", 0.02)
    with Ring(entries=8, multi_issuers=several) as ring:
        reap = ring._reap
        refuse(ring, errno.ENOMEM, inf)
        request = ring.submit(ops.nop())
        with pytest.raises(OSError, match=os.strerror(errno.ENOMEM)):
            request.wait()
        assert not request.done()
        for wait in (ring.wait, ring.drain):
            with pytest.raises(OSError, match=os.strerror(errno.ENOMEM)):
                wait(timeout=None)
        ring._reap = reap
        assert request.wait() == 0
