"""A kernel that refuses every enter: deadlines end what it has not seen, and the run ends what it has."""

from __future__ import annotations

import errno
import gc
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import pytest
import trio

import uring_trio
from tests.property.support import FD, Outcome, running, scripted_run, ticks, until
from uring import CQOverflow, ops
from uring.kernel import refusals
from uring_trio.core.engine import current

if TYPE_CHECKING:
    from collections.abc import Callable

    from uring.kernel.scripted import ScriptedRing
    from uring_trio.core.manager import Manager

REFUSALS = [errno.EAGAIN, errno.EBUSY, errno.ENOMEM]


class Refusing(deque[int]):
    """Results of enters without end."""

    def __init__(self, error: int) -> None:
        super().__init__([0])
        self.error = error

    def popleft(self) -> int:
        return -self.error


async def one() -> Any:
    return await uring_trio.perform(ops.recv(FD, bytearray(8)))


async def several() -> Any:
    return await uring_trio.perform_many([ops.nop() for _ in range(5)])


async def multishot() -> Any:
    async with uring_trio.ticks(1) as all_ticks:
        async for _ in all_ticks:
            return


@pytest.mark.parametrize("error", REFUSALS, ids=errno.errorcode.get)
@pytest.mark.parametrize("call", [one, several, multishot], ids=lambda call: call.__name__)
def test_a_deadline_ends_what_the_kernel_has_not_seen(call: Callable[..., Any], error: int) -> None:
    async def main(manager: Manager, ring: ScriptedRing) -> None:
        ring.enter_results = Refusing(error)
        with trio.move_on_after(0.01) as scope:
            await call()
        assert scope.cancelled_caught
        ring.enter_results = deque()
        await trio.testing.wait_all_tasks_blocked()

    scripted_run(main)


def test_an_operation_is_used_again_before_its_old_entry_is_gone() -> None:
    async def main(manager: Manager, ring: ScriptedRing) -> None:
        near, far = trio.socket.socketpair()
        with near, far:
            ring.enter_results = Refusing(errno.EAGAIN)
            with trio.move_on_after(0.01) as scope:
                await near.recv(4)
            assert scope.cancelled_caught
            got = Outcome()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(got.run, near.recv, 4)
                await ticks()
                ring.enter_results = deque()
                await until(lambda: bool(running(ring, near.fileno())))
                assert not got.done
                ring.complete(ring.find(fd=near.fileno()), data=b"data")
            assert got.value == b"data"
        assert manager.late == 0

    scripted_run(main)


def test_refusals_between_enters_that_succeed_do_not_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "REFUSED_SECONDS", 0.02)

    async def main() -> None:
        manager: Any = current()
        refuse = True

        def wrap(cycle: Callable[..., int]) -> Callable[..., int]:
            def each_other(*timeout: float) -> int:
                nonlocal refuse
                refuse = not refuse
                return -errno.EAGAIN if refuse else cycle(*timeout)

            return each_other

        manager.wrap_enter(wrap)
        end = time.monotonic() + 0.2
        while time.monotonic() < end:
            assert await uring_trio.perform(ops.nop()) == 0
        manager.wrap_enter(None)

    uring_trio.run(main)


# Trio's tasks of a run that is given up say so as they go.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("result", "kind"),
    [(-errno.EAGAIN, BlockingIOError), (-errno.EBADR, CQOverflow), (-errno.EINVAL, OSError)],
)
def test_what_does_not_pass_ends_the_run(
    result: int, kind: type[OSError], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusals, "REFUSED_SECONDS", 0.02)

    async def main() -> None:
        manager: Any = current()

        def wrap(cycle: Callable[..., int]) -> Callable[..., int]:
            return lambda *timeout: cycle(*timeout) if manager.closed else result

        manager.wrap_enter(wrap)
        await trio.sleep_forever()

    with pytest.raises(trio.TrioInternalError) as caught:
        uring_trio.run(main)
    assert isinstance(caught.value.__cause__, kind)
    del caught
    gc.collect()
