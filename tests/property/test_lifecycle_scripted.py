"""The code is held to the life-cycle table: each legal event from each state, and random lives."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.property.support import MORE, NOTIF, ORDERS, RECV, Outcome, orders, scripted_run, ticks, until
from uring.kernel.scripted import FAKE_FD, Request, ScriptedRing
from uring.machines.lifecycle import TABLE, Event, State, step
from uring_trio import seams
from uring_trio.core.fd import Fd

if TYPE_CHECKING:
    from uring_trio.core.manager import Manager

FD = FAKE_FD + 7
LEGAL = [(state, event) for state in State for event in Event if TABLE[state][event] is not None]
BUSY = [s for s in State if s not in (State.FREE, State.READY)]


class Life:
    """One operation of a descriptor and the task that uses it; the ring takes entries only when told to."""

    def __init__(self, manager: Manager, ring: ScriptedRing, nursery: trio.Nursery) -> None:
        self.manager, self.ring, self.nursery = manager, ring, nursery
        self.op = manager.acquire("recv", FD)
        manager.release(self.op)
        self.owner = Fd.open(manager, FD)
        self.outcome = Outcome()
        self.outcome.done = True
        self.taken = self.closed = False
        ring.held = True
        ring.on_start = self._started

    def _started(self, request: Request) -> None:
        self.taken |= request.user_data == self.op.user_data

    def observe(self) -> State:
        op, ring = self.op, self.ring
        if op in self.manager.table.free:
            return State.FREE
        if op.task is None:
            return State.READY
        entries = [request for request in ring.queued if request.user_data == op.user_data]
        if entries:
            return State.QUEUED if entries[0].opcode == RECV else State.TAKEN_BACK
        if self.taken:
            if op.flags & MORE:
                return State.FINISHING
            return State.CANCELLING if op.interrupt is not None else State.IN_FLIGHT
        if op.user_data in ring.undelivered:
            return State.TAKEN_BACK
        dropped = op.interrupt is not None or self.outcome.scope.cancel_called
        return State.DROPPED if dropped else State.WAITING

    async def happen(self, event: Event) -> None:
        await getattr(self, event.name.lower())()

    async def acquire(self) -> None:
        if self.closed:
            self.owner = Fd.open(self.manager, FD)
            self.closed = False
        op = self.owner.operation("recv")
        assert op is self.op
        self.owner.reader = op
        op.template = self.ring.template(op.user_data, RECV, 0, FD)

    async def queue(self) -> None:
        self.ring.full = False
        self._begin()
        await until(lambda: self._is_queued())

    def _is_queued(self) -> bool:
        return any(request.user_data == self.op.user_data for request in self.ring.queued)

    async def refuse(self) -> None:
        self.ring.full = True
        self._begin()
        await ticks()

    def _begin(self) -> None:
        if self.op.task is None:
            self.outcome = Outcome()
            self.taken = False
            self.op.flags = 0
            self.op.pins = object()
            self.nursery.start_soon(self.outcome.run, seams.transact, self.op)

    async def submit(self) -> None:
        self.ring.held = False
        self.ring.flush(0)
        self.ring.held = True

    async def cancel(self) -> None:
        if self.observe() is State.DROPPED:
            self.outcome.scope.cancel()
        elif self.outcome.scope.cancel_called:
            self.manager.cancels.cancel(self.op)
        else:
            self.outcome.scope.cancel()

    async def close(self) -> None:
        self.owner.close()
        self.closed = True

    async def more(self) -> None:
        if self.op in self.manager.table.free:
            self._late(MORE)
        else:
            self.ring.complete(self.ring.find(user_data=self.op.user_data), 7, MORE)
            self._deliver()

    async def last(self) -> None:
        op = self.op
        if op in self.manager.table.free:
            self._late(0)
            return
        assert op.pins is not None
        if self.observe() is State.TAKEN_BACK:
            await self.submit()
        elif op.flags & MORE:
            self.ring.complete(self.ring.find(user_data=op.user_data), 0, NOTIF)
        else:
            self.ring.complete(self.ring.find(user_data=op.user_data), 7)
        self._deliver()
        assert op.pins is None

    def _late(self, flags: int) -> None:
        late = self.manager.late
        self.ring.forge(self.op.user_data ^ 1 << 24, 0, flags)
        self._deliver()
        assert self.manager.late == late + 1

    def _deliver(self) -> None:
        self.manager.process_events(self.manager.get_events(0))

    async def resume(self) -> None:
        await until(lambda: self.outcome.done)

    async def release(self) -> None:
        if self.op.task is None and self.op not in self.manager.table.free:
            self.owner.reader = None
            self.manager.release(self.op)

    async def end(self) -> None:
        """Lets the life end whatever state it is in."""
        self.ring.held = self.ring.full = False
        self.outcome.scope.cancel()
        await ticks(5)
        if self.op.flags & MORE and self.op.task is not None:
            # What waits for a notification finds no cancel.
            self.ring.complete(self.ring.find(user_data=self.op.user_data), 0, NOTIF)
        await until(lambda: self.outcome.done)
        self.owner.close()


def live(events: list[Event], order: int | None = None) -> list[Outcome]:
    """Lets the events happen to an operation, comparing the code's state with the table's after each."""
    outcomes: list[Outcome] = []

    async def main(manager: Manager, ring: ScriptedRing) -> None:
        async with trio.open_nursery() as nursery:
            life = Life(manager, ring, nursery)
            state = State.FREE
            try:
                for event in events:
                    retiring = life.closed
                    state = step(state, event)
                    await life.happen(event)
                    if life.outcome not in outcomes:
                        outcomes.append(life.outcome)
                    if state is State.READY and retiring and event is not Event.ACQUIRE:
                        state = step(state, Event.RELEASE)
                    assert life.observe() is state, (events, event)
            finally:
                await life.end()

    scripted_run(main, order=order)
    return outcomes


def path_to(goal: State) -> list[Event]:
    """The shortest life that leads to a state."""
    paths: dict[State, list[Event]] = {State.FREE: []}
    todo = deque([State.FREE])
    while todo:
        state = todo.popleft()
        for event, after in TABLE[state].items():
            if after is not None and after not in paths:
                paths[after] = [*paths[state], event]
                todo.append(after)
    return paths[goal]


@pytest.mark.parametrize(("state", "event"), LEGAL, ids=lambda x: x.name)
def test_each_legal_event(state: State, event: Event) -> None:
    live([*path_to(state), event])


@pytest.mark.parametrize("state", BUSY, ids=lambda x: x.name)
def test_a_busy_operation_refuses_a_second_task(state: State) -> None:
    async def main(manager: Manager, ring: ScriptedRing) -> None:
        async with trio.open_nursery() as nursery:
            life = Life(manager, ring, nursery)
            for event in path_to(state):
                await life.happen(event)
            with pytest.raises(trio.BusyResourceError):
                await seams.transact(life.op)
            assert life.observe() is state
            await life.end()

    scripted_run(main)


@settings(max_examples=ORDERS, deadline=None)
@given(st.data())
def test_random_lives(data: st.DataObject) -> None:
    state, events, closed = State.FREE, [], False
    for _ in range(data.draw(st.integers(1, 20), label="length")):
        event = data.draw(st.sampled_from([e for e, after in TABLE[state].items() if after is not None]))
        events.append(event)
        was_closed, closed = closed, closed or event is Event.CLOSE
        state = step(state, event)
        if event is Event.ACQUIRE:
            closed = False
        elif state is State.READY and was_closed:
            state = State.FREE
    live(events, data.draw(orders, label="order"))


def test_what_the_task_gets() -> None:
    base = [Event.ACQUIRE, Event.QUEUE]
    flying = [*base, Event.SUBMIT]

    def got(events: list[Event]) -> object:
        [*_, outcome] = live(events)
        return outcome.value if outcome.error is None else type(outcome.error)

    assert got([*flying, Event.LAST]) == 7
    assert got([*flying, Event.CANCEL, Event.LAST]) == 7
    assert got([*flying, Event.CLOSE, Event.LAST]) == 7
    assert got([*flying, Event.CANCEL, Event.MORE, Event.LAST]) == 7
    assert got([*base, Event.CANCEL, Event.LAST]) is trio.Cancelled
    assert got([*base, Event.CLOSE, Event.LAST]) is trio.ClosedResourceError
    assert got([Event.ACQUIRE, Event.REFUSE, Event.CLOSE, Event.RESUME]) is trio.ClosedResourceError
    assert got([Event.ACQUIRE, Event.REFUSE, Event.CANCEL, Event.RESUME]) is trio.Cancelled
    assert got([Event.ACQUIRE, Event.REFUSE, Event.REFUSE, Event.QUEUE, Event.SUBMIT, Event.LAST]) == 7
