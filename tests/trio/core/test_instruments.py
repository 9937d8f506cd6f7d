"""Instruments: who is told of a run's operations, and that nobody else pays for it."""

import errno
import re
import select

import pytest
import trio
import trio.testing

import uring_trio
from uring import ops
from uring_trio import RingOptions, debug
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


class Hooks(trio.abc.Instrument):
    """Each hook of Trio's that was called, with the name of its task."""

    def __init__(self):
        self.calls = []

    def before_run(self):
        self.calls.append("before_run")

    def after_run(self):
        self.calls.append("after_run")

    def task_spawned(self, task):
        self.calls.append(("task_spawned", name(task)))

    def task_scheduled(self, task):
        self.calls.append(("task_scheduled", name(task)))

    def before_task_step(self, task):
        self.calls.append(("before_task_step", name(task)))

    def after_task_step(self, task):
        self.calls.append(("after_task_step", name(task)))

    def task_exited(self, task):
        self.calls.append(("task_exited", name(task)))

    def before_io_wait(self, timeout):
        self.calls.append("before_io_wait")

    def after_io_wait(self, timeout):
        self.calls.append("after_io_wait")


def name(task):
    return task.name.rpartition(".")[2]


async def talk():
    """One task, so that nothing depends on the order of tasks."""
    near, far = trio.socket.socketpair()
    with near, far:
        for _ in range(3):
            await near.send(b"x")
            assert await far.recv(1) == b"x"
        with trio.move_on_after(0.01):
            await far.recv(1)
        await trio.sleep(0)


LETTERS = {
    "task_spawned": "n",
    "task_scheduled": "s",
    "before_task_step": "<",
    "after_task_step": ">",
    "task_exited": "x",
}
# After a step a task is scheduled again at once, or parks and is scheduled later.
PROTOCOL = re.compile("ns(<(s>|>s))*<x>")


@pytest.mark.parametrize("run", [trio.run, uring_trio.run], ids=["stock", "ring"])
def test_an_instrument_of_trio_sees_each_step(run):
    hooks = Hooks()
    run(talk, instruments=[hooks])
    assert hooks.calls[0] == "before_run"
    assert hooks.calls[-1] == "after_run"
    assert hooks.calls.count("before_io_wait") == hooks.calls.count("after_io_wait") > 0
    seen = "".join(LETTERS[call[0]] for call in hooks.calls if call[-1] == "talk")
    assert PROTOCOL.fullmatch(seen), seen
    assert seen.count("<") > 8


def test_an_instrument_of_trio_comes_and_goes():
    async def main():
        hooks = Hooks()
        for _ in range(3):
            await trio.sleep(0)
        trio.lowlevel.add_instrument(hooks)
        await talk()
        trio.lowlevel.remove_instrument(hooks)
        told = len(hooks.calls)
        before = uring_trio.statistics().compiled_ticks
        await talk()
        assert len(hooks.calls) == told > 20
        assert uring_trio.statistics().compiled_ticks > before

    uring_trio.run(main, ring=RingOptions(compiled=True))
