"""The common part of the model's worlds: the product's table, operations, cancels and delivery, the ring of
`kernel`, and the state of all that as a value.

`Small` is the product's manager with another beginning: it opens no ring, and its parts are few.
"""

from __future__ import annotations

import errno
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from uring import abi
from uring.kernel.inflight import GENERATION, INDEX_MASK, Table
from uring_trio import seams
from uring_trio.core.cancels import Cancels
from uring_trio.core.draining import dispose
from uring_trio.core.manager import Manager
from uring_trio.core.operation import Operation, hold

from .kernel import ARMED, MORE, READY, WORKER, InKernel, Ring
from .search import Choices

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ECANCELED", "FD", "Small"]

FD = 5
ECANCELED = -errno.ECANCELED
_ASYNC_CANCEL = int(abi.IORING_OP_ASYNC_CANCEL)
_ANY_ALL = int(abi.IORING_ASYNC_CANCEL_ANY | abi.IORING_ASYNC_CANCEL_ALL)


class Small(Manager):
    """A manager on the ring of the model.

    Attributes:
        small: that ring.
        parties: the tasks that may be parked on an operation, in a fixed order.
        interrupts: what an operation may be interrupted by; the first is None.
        handlers: the handlers that operations may have.
        draining: whether the run is at its end.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return object.__new__(cls)

    def _begin(self, room: int) -> None:
        self.choices = Choices()
        self.small = Ring(room, self.choices)
        self.ring = cast("Any", self.small)
        self.runner = SimpleNamespace(is_guest=False, instruments={}, runq=[])
        self.reach, self.pool, self.late, self.owners = None, [], 0, {}
        self.buffers = SimpleNamespace(views=[], put=None)
        self.parties: list[Any] = []
        self._slots: list[Operation] = []
        self.table = Table(self._make_operation)
        self.cancels = Cancels(self.ring, self.table)
        self.closed = self.draining = False
        self.interrupts: list[Callable[[], Any] | None] = [None]
        self.handlers: list[Any] = [hold, self.cancels.answered]
        self.cancels.user_data = self._internal("async_cancel", self.cancels.answered).user_data

    def slot(self, user_data: int) -> Operation:
        return self._slots[user_data & INDEX_MASK]

    def _make_operation(self, user_data: int) -> Operation:
        index = user_data & INDEX_MASK
        if index == len(self._slots):
            self._slots.append(Operation(user_data, self))
        self._put_back(self._slots[index], (user_data, None, None, 0, 0, False, 0, 0))
        return self._slots[index]

    # ---- the state as a value ----------------------------------------------------------------------------

    def freeze_parts(self) -> tuple[Any, ...]:
        number, handler = self.interrupts.index, self.handlers.index
        cancels, small = self.cancels, self.small
        of = self._renumber()
        slots = [
            (
                of[op.user_data],
                None if op.task is None else self.parties.index(op.task),
                op.pins,
                number(op.interrupt),
                handler(op.handler),
                op.retired,
                op.res,
                op.flags,
            )
            for op in self.table.entries
        ]
        return (
            tuple(slots),
            tuple([op.user_data & INDEX_MASK for op in self.table.free]),
            *(
                tuple([each and (of[each[0]], number(each[1]), each[2]) for each in requests])
                for requests in (cancels.waiting, cancels._asked)
            ),
            tuple([entry._replace(user_data=of[entry[0]], target=of[entry[3]]) for entry in small.entries]),
            tuple([each._replace(user_data=of[each[0]]) for each in small.kernel]),
            tuple([(of[data], res, flags) for data, res, flags in small.posted]),
            self.closed,
            self.draining,
        )

    def _renumber(self) -> dict[int | None, int | None]:
        """Generations of each slot that somebody still names, numbered from 0: how many there were before is
        no part of the state, and would make infinitely many."""
        named = {op.user_data for op in self.table.entries}
        for requests in (self.cancels.waiting, self.cancels._asked):
            named.update([request[0] for request in requests if request])
        for several in (self.small.entries, self.small.kernel, self.small.posted):
            named.update([each[0] for each in several])
        named.update([entry[3] for entry in self.small.entries if entry[3] is not None])
        named.discard(-1)
        seen: dict[int, int] = {}
        renumbered: dict[int | None, int | None] = {None: None, -1: -1}
        for user_data in sorted(named):
            index = user_data & INDEX_MASK
            seen[index] = seen.get(index, -1) + 1
            renumbered[user_data] = index + seen[index] * GENERATION
        return renumbered

    def thaw_parts(self, state: tuple[Any, ...]) -> None:
        slots, free, waiting, asked, entries, kernel, posted, self.closed, self.draining = state
        self.table.entries[:] = self._slots[: len(slots)]
        for op, values in zip(self.table.entries, slots):
            self._put_back(op, values)
        self.table.free[:] = [self._slots[index] for index in free]
        of = self.interrupts
        self.cancels.waiting[:] = [(target, of[number], again) for target, number, again in waiting]
        self.cancels._asked.clear()
        self.cancels._asked.extend(each and (each[0], of[each[1]], each[2]) for each in asked)
        self.small.entries[:] = entries
        self.small.kernel[:] = kernel
        self.small.posted[:] = posted
        self.small.begin()
        self.runner.runq.clear()
        self.late = 0

    def _put_back(self, op: Operation, values: tuple[Any, ...]) -> None:
        op.user_data, party, op.pins, interrupt, handler, op.retired, op.res, op.flags = values
        op.task = None if party is None else self.parties[party]
        op.interrupt = self.interrupts[interrupt]
        op.handler = self.handlers[handler]

    # ---- the kernel --------------------------------------------------------------------------------------

    def kernel_acts(self) -> list[tuple[str, int]]:
        """What the kernel may do by itself, beside completing what it has."""
        found = []
        for which, each in enumerate(self.small.kernel):
            if each.phase in (ARMED, WORKER):
                found.append(("ends_it", which))
            if each.phase == ARMED:
                found.append(("to_worker", which))
                if not each.was_ready:
                    found.append(("becomes_ready", which))
        return found

    def armed(self) -> list[InKernel]:
        return [found for found in self.small.kernel if found.phase == ARMED]

    def do_ends_it(self, which: int) -> None:
        """Somebody else cancels it, or a worker that was asked to gives up."""
        self.small.complete(self.small.kernel[which], ECANCELED)

    def do_to_worker(self, which: int) -> None:
        self.small.move(self.small.kernel[which], WORKER)

    def do_becomes_ready(self, which: int) -> None:
        self.small.move(self.small.kernel[which], READY)

    # ---- the run -----------------------------------------------------------------------------------------

    def over(self) -> bool:
        return self.closed

    def do_tick(self, _: int) -> None:
        self.cancels.send()
        self.small.enter(True)
        for completion in self.small.hand_out():
            self.delivering(*completion)
            seams.deliver(self, [completion])
            self.delivered(*completion)

    def do_drain(self, _: int) -> None:
        """One round of the end of a run."""
        if not self.small.inflight:
            self.closed = True
            return
        self.small.put(self.cancels.user_data, _ASYNC_CANCEL, 0, -1, 0, 0, 0, _ANY_ALL, 0, 0, 0)
        self.small.enter(True)
        for completion in self.small.hand_out():
            self.delivering(*completion)
            dispose(self, *completion)

    def delivering(self, user_data: int, res: int, flags: int) -> None:
        if user_data != self.cancels.user_data:
            op = self.table.find(user_data)
            assert op is not None, "a completion comes to a slot that was given back"
            assert op.pins is not None, "the memory was let go before the last completion"

    def delivered(self, user_data: int, res: int, flags: int) -> None:
        if user_data != self.cancels.user_data and not flags & MORE:
            op = self.table.find(user_data)
            assert op is None or op.pins is None, "the memory is held after the last completion"

    # ---- promises ----------------------------------------------------------------------------------------

    def check_parts(self) -> None:
        small, own = self.small, self.cancels.user_data
        flying = [entry.user_data for entry in small.entries if entry.target is None]
        flying += [each.user_data for each in small.kernel]
        flying += [data for data, _, flags in small.posted if data != own and not flags & MORE]
        assert len(set(flying)) == len(flying), "a user_data is in flight twice"
        free = [op.user_data for op in self.table.free]
        assert len(set(free)) == len(free), "a slot was given back twice"
        for user_data in flying:
            op = self.table.find(user_data)
            assert op is not None, "a slot was given back while something was in flight under it"
            assert op.pins is not None, "the memory of something in flight is not held"
            assert user_data not in free, "a slot in use is free"
        for op in self.table.free:
            assert op.pins is None, "a free slot holds memory"
            assert op.task is None, "a task is parked on a free slot"
            assert op.interrupt is None, "a free slot is interrupted"
        assert self.late == 0, "a completion of the run's own was taken for a late one"
        assert not (self.closed and flying), "the ring is closed while something is in flight"

    def requested(self) -> set[int]:
        """What the kernel was asked to cancel or will be."""
        return {each[0] for each in (*self.cancels.waiting, *self.cancels._asked) if each}
