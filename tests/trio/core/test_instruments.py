"""Instruments: who is told of a run's operations, and that nobody else pays for it."""

import errno
import select

import pytest
import trio
import trio.testing

import uring_trio
from uring import ops
from uring_trio import debug
from uring_trio.core.engine import current


class Log(debug.Instrument):
    def __init__(self):
        self.events = []

    def submitted(self, name, fd):
        self.events.append((name, fd))

    def completed(self, name, fd, res, more):
        self.events.append((name, fd, res, more))


async def test_an_instrument_sees_operations_go_and_come():
    near, far = trio.socket.socketpair()
    with near, far:
        await trio.testing.wait_all_tasks_blocked()
        cycle = current()._cycle
        log, other = Log(), Log()
        debug.add_instrument(log)
        debug.add_instrument(other)
        for number in range(3):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(near.recv, 10)
                await trio.testing.wait_all_tasks_blocked()
                await far.send(bytes(number + 1))
        with trio.move_on_after(0.01):
            await near.recv(10)
        recv = near.fileno()
        seen = [event for event in log.events if event[:2] == ("recv", recv)]
        results = (1, 2, 3, -errno.ECANCELED)
        expected = [(("recv", recv), ("recv", recv, result, False)) for result in results]
        assert seen == [event for pair in expected for event in pair]
        async with uring_trio.poll_events(near.fileno(), select.POLLOUT) as events:
            await anext(events)
            assert log.events[-1] == ("poll_multishot", recv, select.POLLOUT, True)
        assert log.events == other.events
        debug.remove_instrument(other)
        debug.remove_instrument(log)
        told = len(log.events)
        await uring_trio.perform(ops.nop())
        assert len(log.events) == told
        assert current()._cycle == cycle, "it costs nothing any more"
        with pytest.raises(ValueError, match="not added"):
            debug.remove_instrument(log)
        with pytest.raises(TypeError, match="Instrument"):
            debug.add_instrument(object())


def test_outside_a_ring_run_there_is_nothing_to_see():
    with pytest.raises(RuntimeError, match="async context"):
        debug.add_instrument(debug.Instrument())
