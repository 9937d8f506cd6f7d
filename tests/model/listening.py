"""A multishot in small: the product's subscription on the parts of `base`, one consumer, a kernel that sends.

The states are those of `uring_trio.multishot.states`, and each step goes through that table: an event that
cannot happen raises. What holds in every state
  - Each item is taken or discarded, once, in its order.
  - A consumer that waits has something in flight that will wake it.
  - A closed subscription leaves nothing armed for which no cancel is under way.
"""

from __future__ import annotations

import errno
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from uring.kernel.inflight import INDEX_MASK
from uring_trio.core.fd import Fd
from uring_trio.multishot.states import OVER, Event, State
from uring_trio.multishot.subscription import Subscription

from .base import ECANCELED, FD, Small
from .kernel import ARMED, MORE, READY, WORKER

if TYPE_CHECKING:
    from collections.abc import Hashable

    from .kernel import Entry, InKernel

__all__ = ["Listening"]

_RECV = 27
_CONSUMER = ("phase", "expects", "wakes", "got")
_PARKED = {"parked": "calling", "closing": "leaving"}
"""The phases of a consumer that waits, and those that follow when it is woken."""


class Consumer:
    """Who takes the items.

    Attributes:
        phase: ``idle``, ``calling``, ``parked``, ``closing`` (it waits for the last completion),
            ``leaving``, ``gone``.
        expects: the number of the next item, taken or discarded.
    """

    def __init__(self) -> None:
        self.phase, self.expects, self.wakes, self.got = "idle", 1, 0, ""
        self.coro = SimpleNamespace(send=None)


class Listening(Small):
    """A world for `explore`.

    Args:
        items: how many items the kernel has.
        limit: after how many in its queue the subscription pauses.
        room: entries of the submission queue.
        crash: whether the run may end with the subscription open.
    """

    def __init__(self, items: int, limit: int, room: int, *, crash: bool = False) -> None:
        self._begin(room)
        self.items, self.crash = items, crash
        self.sent = 0
        self.foreign = 1  # how often something else may end it
        self.fd_open = self.user_open = True
        self.small.on_take, self.small.on_work = self._taken, self._work
        self._file = Fd.open(self, FD)
        self.consumer = Consumer()
        self.parties = [self.consumer]
        fields = (_RECV, 0, FD, 0, 0, 0, 0, 0, 0, 0)
        self.taking = Subscription(self._file, "items", fields, self._discard, limit, pins=self)
        self.handlers.append(self.taking)

    # ---- the state as a value ----------------------------------------------------------------------------

    def freeze(self) -> Hashable:
        taking, op = self.taking, self.taking._op
        return (
            self.freeze_parts(),
            tuple([getattr(self.consumer, name) for name in _CONSUMER]),
            (self.sent, self.foreign, self.fd_open, self.user_open, self._file.fd),
            (
                taking.state,
                tuple(taking.queue),
                -1 if op is None else op.user_data & INDEX_MASK,
                taking.task is None,
                taking._last,
                taking.failure,
                taking._abandoned,
                taking in self._file.others,
            ),
        )

    def thaw(self, state: Hashable) -> None:
        parts, consumer, (self.sent, self.foreign, self.fd_open, self.user_open, self._file.fd), own = cast(
            "Any", state
        )
        for name, value in zip(_CONSUMER, consumer):
            setattr(self.consumer, name, value)
        self.thaw_parts(parts)
        taking = self.taking
        taking.state, queue, op, alone, taking._last, taking.failure, taking._abandoned, listed = own
        taking.queue.clear()
        taking.queue.extend(queue)
        taking._op = None if op < 0 else self.slot(op)
        taking.task = None if alone else self.consumer
        self._file.others[:] = [taking] if listed else []
        self.owners.clear()
        if self._file.fd >= 0:
            self.owners[FD] = self._file

    # ---- what may happen ---------------------------------------------------------------------------------

    def acts(self) -> list[tuple[str, int]]:
        found = [act for act in self.kernel_acts() if act[0] != "ends_it" or self.foreign]
        for which, each in enumerate(self.small.kernel):
            if self.sent < self.items:
                found.append(("complete", which))
                if each.phase in (ARMED, READY):
                    found.append(("item", which))
            if self.foreign:
                found.append(("fails", which))
            if each.phase == WORKER:
                found.append(("gives_up", which))
        if self.draining:
            return [*found, ("drain", 0)]
        phase = self.consumer.phase
        if phase == "idle":
            found += [("get", 0), ("leave", 0)]
        if phase == "calling":
            found += [("get", 0), ("cancel_get", 0)]
        if phase == "parked":
            found.append(("cancel_get", 0))
        if phase == "leaving":
            found.append(("leave", 0))
        if self.fd_open:
            found.append(("close_file", 0))
        found.append(("tick", 0))
        if self.crash or phase == "gone":
            found.append(("end", 0))
        return found

    def act(self, name: str, which: int) -> None:
        getattr(self, f"do_{name}")(which)
        for task in self.runner.runq:
            assert task is self.consumer
            assert task.phase in _PARKED, f"the consumer is woken while {task.phase}"
            task.phase = _PARKED[task.phase]
        self.runner.runq.clear()

    # The consumer.

    def do_get(self, _: int) -> None:
        """`Subscription.get`, up to where it waits."""
        taking, consumer = self.taking, self.consumer
        if not taking.queue and taking.state is not State.ARMED:
            if taking.state in OVER:
                consumer.phase = "idle"  # ClosedResourceError
                return
            if taking.state is State.ENDED:
                taking.step(Event.GET)
                taking.failure = 0
                consumer.phase = "idle"  # the end, or the error, is told
                return
            taking._refill()
            taking.step(Event.GET)
            if taking.state is State.IDLE or taking._has_room():
                consumer.phase = "calling"  # a checkpoint, and once more
                return
        if not taking.queue:
            consumer.phase, taking.task = "parked", consumer
            return
        self._expect(taking._take()[0])
        consumer.phase = "idle"

    def do_cancel_get(self, _: int) -> None:
        if self.consumer.phase == "parked":
            self.taking._abort(None)
        self.consumer.phase = "idle"

    def do_leave(self, _: int) -> None:
        """`Subscription.aclose`, up to where it waits."""
        taking = self.taking
        if self.consumer.phase == "idle":
            if taking in self._file.others:
                self._file.others.remove(taking)
            taking.close()
            if taking._op is not None:
                self.cancels.cancel(taking._op)
        if taking._op is not None:
            self.consumer.phase, taking.task = "closing", self.consumer
            return
        while taking.queue:
            self._discard(*taking.queue.popleft())
        self.consumer.phase = "gone"

    def do_close_file(self, _: int) -> None:
        self._file.close()
        self.fd_open = False

    def _discard(self, res: int, flags: int) -> None:
        self._expect(res)

    def _expect(self, res: int) -> None:
        if res > 0:
            assert res == self.consumer.expects, f"item {res} in the place of {self.consumer.expects}"
            self.consumer.expects += 1

    # The kernel.

    def do_item(self, which: int) -> None:
        self.sent += 1
        each = self.small.kernel[which]
        self.small.posted.append((each.user_data, self.sent, MORE))

    def do_complete(self, which: int) -> None:
        """The last completion may bring an item too."""
        self.sent += 1
        self.small.complete(self.small.kernel[which], self.sent)

    def do_ends_it(self, which: int) -> None:
        self.foreign -= 1
        super().do_ends_it(which)

    def do_fails(self, which: int) -> None:
        self.foreign -= 1
        self.small.complete(self.small.kernel[which], -errno.EIO)

    def do_gives_up(self, which: int) -> None:
        self.small.complete(self.small.kernel[which], ECANCELED)

    def _work(self, ready: InKernel) -> None:
        if self.sent < self.items:
            self.do_item(self.small.kernel.index(ready))
        self.small.move(ready, ARMED)

    # The run.

    def do_end(self, _: int) -> None:
        """What `Manager.close` begins with."""
        self.draining = True
        for owner in self.owners.values():
            for subscription in owner.others:
                subscription.abandon()

    def _taken(self, entry: Entry) -> None:
        assert entry.taken_back or self.fd_open, "a closed descriptor reaches the kernel"

    # ---- promises ----------------------------------------------------------------------------------------

    def check(self) -> None:
        self.check_parts()
        taking = self.taking
        given = self.consumer.expects - 1 + sum(res > 0 for res, _ in taking.queue)
        given += sum(res > 0 for data, res, _ in self.small.posted if data != self.cancels.user_data)
        listed = taking in self._file.others or self.consumer.phase in ("closing", "leaving", "gone")
        assert given == self.sent or (self.draining and not listed), "an item is lost"
        if self.draining:
            return
        flying = bool(self.small.inflight)
        if self.consumer.phase == "parked":
            assert taking.task is self.consumer, "the consumer waits, and the subscription has no task"
            assert not taking.queue, "the consumer waits beside an item"
            assert flying, "the consumer waits, and nothing will wake it"
        if self.consumer.phase == "closing":
            assert flying, "the consumer waits for the last completion, and none will come"
        if taking.state in OVER or taking.state is State.PAUSING:
            for found in self.armed():
                assert found.user_data in self.requested(), "a request to cancel got lost"
