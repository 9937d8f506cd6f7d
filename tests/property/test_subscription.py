"""Every order of what can happen to a subscription, on a ring that does nothing by itself.

Whatever the order: each completion is taken or discarded once and in its order, a buffer is in one place, no
request is in flight twice, and a subscription that is closed ends when its last completion has come.
"""

from __future__ import annotations

import errno
from collections import deque
from typing import Any

import pytest

from uring import abi
from uring_trio.multishot import subscription
from uring_trio.multishot.states import Event, State
from uring_trio.multishot.subscription import Subscription

MORE = int(abi.IORING_CQE_F_MORE)
BUFFER = int(abi.IORING_CQE_F_BUFFER)
LIMIT = 2
ORDERS_LEAST = 10_000


class Ring:
    """Stands for manager, its cancels, owner and operation: it counts what is armed and cancelled."""

    closed = False

    def __init__(self) -> None:
        self.engine = self.cancels = self
        self.fd = 3
        self.others: list[Any] = []
        self.receiving = None
        self.armed: list[Any] = []
        self.cancelled = 0
        self.full = False
        self.user_data = 0
        self.handler: Any = None
        self.pins: Any = None

    def operation(self, name: str) -> Ring:
        assert not self.armed, "armed twice"
        return self

    def put(self, *fields: int) -> int:
        if self.full:
            return -1
        self.armed.append(fields)
        return 0

    def release(self, op: Ring) -> None:
        self.armed.clear()

    def cancel(self, op: Ring) -> None:
        assert self.armed
        self.cancelled += 1

    def check_usable(self) -> None:
        pass

    def complete(self, res: int, flags: int) -> None:
        self.handler(self, res, flags)


class Buffers:
    """Stands for a group that has one buffer and may have two."""

    def __init__(self) -> None:
        self.available = self.in_use = 1
        self.order = deque([0])
        self.on_return: Any = None
        self.given_back = False

    def consume(self, res: int, flags: int) -> None:
        if flags & BUFFER:
            assert self.order.popleft() == flags >> 16
            self.available -= 1

    def recycle(self, bid: int) -> None:
        self.order.append(bid)
        self.available += 1
        if self.on_return is not None:
            self.on_return()

    def grow(self) -> None:
        for bid in range(self.in_use, LIMIT):
            self.order.append(bid)
            self.available += 1
            self.in_use += 1

    def give_back(self) -> None:
        self.given_back = True


class World:
    """A subscription, what came and where it went."""

    def __init__(self, *, with_buffers: bool) -> None:
        self.ring = Ring()
        self.buffers = Buffers() if with_buffers else None
        self.sent = 0
        self.taken: list[int] = []
        self.discarded: list[int] = []
        self.leases: deque[int] = deque()
        self.subscription = Subscription(
            self.ring,  # type: ignore[arg-type]
            "receive",
            (1,),
            self.discard,
            limit=LIMIT,
            group=self.buffers,  # type: ignore[arg-type]
            ends=lambda res: res == 0,
        )

    def discard(self, res: int, flags: int) -> None:
        self.discarded.append(res)
        if flags & BUFFER and self.buffers is not None:
            self.buffers.recycle(flags >> 16)

    def do(self, what: str) -> bool:
        """Does one thing; False where it cannot happen now."""
        ring, sub, buffers = self.ring, self.subscription, self.buffers
        if what in ("data", "overflow"):
            if not ring.armed or (buffers is not None and not buffers.available):
                return False
            self.sent += 1
            flags = MORE if what == "data" else 0
            if buffers is not None:
                flags |= BUFFER | buffers.order[0] << 16
            ring.complete(self.sent, flags)
        elif what == "no buffers":
            if not ring.armed or buffers is None or buffers.available:
                return False
            ring.complete(-errno.ENOBUFS, 0)
        elif what == "cancelled":
            if not ring.armed or not (ring.cancelled or sub.state is State.CLOSING):
                return False
            ring.complete(-errno.ECANCELED, 0)
            ring.cancelled = 0
        elif what in ("end", "error"):
            if not ring.armed:
                return False
            ring.complete(0 if what == "end" else -errno.ECONNRESET, 0)
        elif what == "take":
            return self.take()
        elif what == "return":
            if not self.leases:
                return False
            assert buffers is not None
            buffers.recycle(self.leases.popleft())
        elif what == "close":
            sub.close()
        return True

    def take(self) -> bool:
        sub = self.subscription
        got = sub.get_nowait()
        if got is not None:
            self.taken.append(got[0])
            if self.buffers is not None:
                self.leases.append(got[1] >> 16)
            return True
        if sub.state in (State.CLOSING, State.CLOSED):
            return False
        sub.step(Event.GET)
        return True

    def check(self) -> None:
        sub, ring = self.subscription, self.ring
        in_flight = sub.state in (State.ARMED, State.PAUSING, State.CLOSING)
        assert in_flight == bool(ring.armed) == (sub.op is not None)
        queued = [res for res, _ in sub.queue]
        assert self.taken + queued + self.discarded == list(range(1, self.sent + 1))
        if self.buffers is not None:
            assert self.buffers.available + len(self.leases) + len(queued) == self.buffers.in_use
            assert not (sub.state is State.RESTING and self.buffers.available and len(queued) <= LIMIT // 2)
        elif sub.state is State.RESTING:
            assert len(queued) > LIMIT // 2

    def end(self) -> None:
        self.subscription.close()
        if self.ring.armed:
            self.ring.complete(-errno.ECANCELED, 0)
        assert self.subscription.state is State.CLOSED
        self.subscription.abandon()
        assert self.taken + self.discarded == list(range(1, self.sent + 1))
        if self.buffers is not None:
            assert self.buffers.available + len(self.leases) == self.buffers.in_use


EVENTS = ("take", "data", "overflow", "end", "error", "cancelled", "close")


def replayed(order: tuple[str, ...], *, with_buffers: bool) -> World | None:
    """What an order leads to, looked at after each step; None if the last step cannot happen there."""
    world = World(with_buffers=with_buffers)
    for what in order:
        if not world.do(what):
            return None
        world.check()
    return world


@pytest.mark.parametrize("with_buffers", [False, True], ids=["bounded queue", "bounded buffers"])
def test_every_order(with_buffers: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscription.seams, "interrupted", lambda: False)
    events = (*EVENTS, "no buffers", "return") if with_buffers else EVENTS
    orders: list[tuple[str, ...]] = [()]
    states = set()
    while len(orders) < ORDERS_LEAST:
        longer = []
        for order in orders:
            for event in events:
                world = replayed((*order, event), with_buffers=with_buffers)
                # Closing twice changes nothing, and would be most of the orders.
                if world is not None and not (event == "close" and "close" in order):
                    longer.append((*order, event))
                    states.add(world.subscription.state)
                    world.end()
        orders = longer
    # Buffers bound what comes by themselves: nothing is asked to end for being too much.
    assert states == set(State) - ({State.PAUSING} if with_buffers else set())


def test_a_full_queue_of_the_kernel_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscription.seams, "interrupted", lambda: False)
    world = World(with_buffers=False)
    world.ring.full = True
    world.do("take")
    assert world.subscription.state is State.IDLE
    world.ring.full = False
    world.do("take")
    assert world.subscription.state is State.ARMED
    for _ in range(LIMIT):
        world.do("data")
    assert world.subscription.state is State.PAUSING
    world.do("cancelled")
    assert world.subscription.state is State.RESTING
    world.ring.full = True
    world.do("take")
    assert world.subscription.state is State.RESTING
    world.ring.full = False
    world.do("take")
    assert world.subscription.state is State.ARMED
