"""One contract, two rings: what the manager relies on holds on the kernel's ring and on the scripted one."""

from __future__ import annotations

import errno
import mmap
import random
import select
from collections import deque
from typing import TYPE_CHECKING, Any

import pytest

from tests.property.support import F_BUFFER, MORE, KernelStage, ScriptedStage, Stage
from uring import abi, ops
from uring.kernel.buffers import BufferRing
from uring.kernel.ring import CQE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ECANCELED = -errno.ECANCELED

ENOBUFS = -errno.ENOBUFS

LINK = int(abi.IOSQE_IO_LINK)


def spinning_stage(**sizes: int) -> KernelStage:
    """The kernel's ring, which looks for completions before it sleeps."""
    stage = KernelStage(**sizes)
    stage.ring.spin_us = 2000
    return stage


STAGES: dict[str, Callable[..., Any]] = {
    "kernel": KernelStage,
    "spinning": spinning_stage,
    "scripted": ScriptedStage,
}


@pytest.fixture(
    params=[*(pytest.param(kind, marks=pytest.mark.ring) for kind in ("kernel", "spinning")), "scripted"]
)
def make_stage(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    made: list[Stage] = []

    def make(**sizes: int) -> Stage:
        stage: Stage = STAGES[request.param](**sizes)
        made.append(stage)
        return stage

    yield make
    for stage in made:
        stage.close()


@pytest.fixture
def stage(make_stage: Callable[..., Any]) -> Any:
    return make_stage()


def results(completions: list[tuple[int, int, int]]) -> list[tuple[int, int]]:
    return [(user_data, res) for user_data, res, _ in completions]


# ---- writing, submitting, handing out ---------------------------------------------------------------------


def test_what_was_taken_back_completes_before_the_kernel_takes_it(stage: Any) -> None:
    stage.put(7, ops.nop())
    stage.put(8, ops.nop())
    assert stage.ring.end_unsent(5) == 0
    assert stage.ring.unqueue(7) == 1
    assert stage.ring.end_unsent(5) == 1
    assert CQE.unpack_from(stage.ring.out) == (7, -errno.ECANCELED, 0)
    assert stage.ring.end_unsent(5) == 0
    assert stage.ring.inflight == 2
    assert results(stage.gather(2)) == [(5, -errno.ECANCELED), (8, 0)]
    assert stage.ring.inflight == 0


def test_an_entry_is_written_and_goes_with_the_next_cycle(stage: Any) -> None:
    stage.put(7, ops.nop())
    assert (stage.ring.pending, stage.ring.inflight, stage.ring.idle()) == (1, 1, 0)
    assert stage.step() == [(7, 0, 0)]
    assert (stage.ring.pending, stage.ring.inflight, stage.ring.idle()) == (0, 0, 1)


def test_a_template_is_queued_again_and_again(stage: Any) -> None:
    template = stage.ring.template(9, *ops.nop().fields)
    for _ in range(3):
        assert stage.ring.queue(template) == 0
    assert stage.step() == [(9, 0, 0)] * 3


def test_user_data_keeps_all_its_bits(stage: Any) -> None:
    stage.put((1 << 60) - 1, ops.nop())
    assert stage.step() == [((1 << 60) - 1, 0, 0)]


def test_a_cycle_with_nothing_to_do_makes_no_system_call(stage: Any) -> None:
    before = stage.ring.counters()["enters"]
    assert stage.ring.cycle(0.0) == 0
    assert stage.ring.counters()["enters"] == before


def test_a_wait_that_expires_hands_out_nothing(stage: Any) -> None:
    assert stage.ring.cycle(0.005) == 0


def test_a_flush_submits_without_handing_out(stage: Any) -> None:
    stage.put(1, ops.nop())
    assert stage.ring.flush(0) == 1
    assert (stage.ring.pending, stage.ring.inflight, stage.ring.idle()) == (0, 1, 0)
    assert stage.ring.flush(0) == 0
    enters = stage.ring.counters()["enters"]
    assert stage.step() == [(1, 0, 0)]
    assert stage.ring.counters()["enters"] == enters


def test_a_full_queue_is_flushed(make_stage: Callable[..., Any]) -> None:
    stage = make_stage(entries=4)
    for i in range(10):
        stage.put(i, ops.nop())
    assert stage.ring.inflight == 10
    assert sorted(results(stage.gather(10))) == [(i, 0) for i in range(10)]
    assert stage.ring.counters()["submitted"] == 10


def test_eager_submits_at_once(stage: Any) -> None:
    stage.ring.eager = True
    assert stage.ring.eager is True
    stage.put(1, ops.nop())
    assert stage.ring.pending == 0
    stage.ring.eager = False
    stage.put(2, ops.nop())
    assert stage.ring.pending == 1
    assert results(stage.gather(2)) == [(1, 0), (2, 0)]


def test_more_completions_than_the_queue_holds_keep_their_order(make_stage: Callable[..., Any]) -> None:
    stage = make_stage(entries=16, cq_entries=16)
    for i in range(50):
        stage.put(i, ops.nop())
    first = stage.step()
    assert len(first) == 16
    assert results(first + stage.gather(34)) == [(i, 0) for i in range(50)]
    assert stage.ring.counters()["overflows"] > 0
    assert stage.ring.counters()["completed"] == 50
    assert stage.ring.inflight == 0


def test_deferred_completions_come_in_one_cycle(make_stage: Callable[..., Any]) -> None:
    stage = make_stage(buffers=60)
    streams = [stage.stream() for _ in range(60)]
    for i, stream in enumerate(streams):
        stage.receive(i, stream.fd)
    assert stage.step() == []
    for stream in streams:
        stream.feed(b"x")
    assert sorted(results(stage.step())) == [(i, 1) for i in range(60)]


# ---- receiving --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("early", [True, False])
def test_a_receive_takes_a_buffer_when_data_is_there(stage: Any, early: bool) -> None:
    stream = stage.stream()
    if early:
        stream.feed(b"hello")
    stage.receive(3, stream.fd)
    if not early:
        assert stage.step() == []
        assert stage.ring.inflight == 1
        stream.feed(b"hello")
    [(user_data, res, flags)] = stage.gather(1)
    assert (user_data, res) == (3, 5)
    assert flags & (F_BUFFER | MORE) == F_BUFFER
    assert stage.buffers.views[flags >> 16][:5].tobytes() == b"hello"
    assert stage.buffers.put(flags >> 16) == 0
    assert stage.ring.inflight == 0


def test_the_end_of_the_stream_takes_no_buffer(stage: Any) -> None:
    stream = stage.stream()
    stage.receive(1, stream.fd)
    stream.end()
    [(user_data, res, flags)] = stage.gather(1)
    assert (user_data, res, flags & F_BUFFER) == (1, 0, 0)


def test_an_empty_group_fails_even_where_nothing_has_arrived(make_stage: Callable[..., Any]) -> None:
    stage = make_stage(buffers=1)
    stream = stage.stream()
    stream.feed(b"x")
    stage.receive(1, stream.fd)
    [(_, res, flags)] = stage.gather(1)
    assert res == 1
    stage.receive(2, stage.stream().fd)
    assert stage.gather(1) == [(2, ENOBUFS, 0)]
    stage.buffers.put(flags >> 16)
    stream.feed(b"y")
    stage.receive(3, stream.fd)
    assert results(stage.gather(1)) == [(3, 1)]


def test_a_group_that_does_not_exist(stage: Any) -> None:
    stage.put(1, ops.recv(stage.stream().fd, buffer_group=5, read_buffer_size=10))
    assert stage.gather(1) == [(1, ENOBUFS, 0)]


@pytest.mark.parametrize("seed", range(5))
def test_buffers_grow_and_shrink(make_stage: Callable[..., Any], seed: int) -> None:
    """Wherever in the ring they are: the kernel takes them in the order they were put, and none is lost."""
    chance, count = random.Random(seed), 7
    stage = make_stage(buffers=count, first=2)
    stream, buffers = stage.stream(), stage.buffers
    home, ours, unused = deque([0, 1]), [], set(range(2, count))
    for number in range(1, 400):
        match chance.randrange(5):
            case 0 if ours:
                bid = ours.pop(chance.randrange(len(ours)))
                assert buffers.put(bid) == 0
                home.append(bid)
            case 1 if chance.random() < 0.3:
                before = buffers.in_use
                new = buffers.grow()
                assert len(new) == min(before, count - before)
                assert unused.issuperset(new)
                home += new
                unused -= set(new)
            case 2 if chance.random() < 0.3:
                keep = chance.randrange(1, count + 1)
                gone = buffers.shrink(keep)
                assert len(gone) == min(len(home), max(0, len(home) + len(ours) - keep))
                assert gone == [home.pop() for _ in gone][::-1]
                unused |= set(gone)
            case 3:
                bid = buffers.take()
                assert bid == (home.pop() if home else -1)
                if bid >= 0:
                    ours.append(bid)
            case _:
                text = b"%03d" % number
                stream.feed(text)
                stage.receive(number, stream.fd)
                [(user_data, res, flags)] = stage.gather(1)
                assert user_data == number
                if home:
                    assert flags >> 16 == home[0]
                    assert buffers.views[home[0]][:res].tobytes() == text
                    ours.append(home.popleft())
                else:
                    assert res == ENOBUFS
                    assert stream.unread() == text
        assert buffers.in_use == len(home) + len(ours)
    with pytest.raises(ValueError, match="at least one"):
        buffers.shrink(0)


@pytest.mark.ring
def test_memory_of_buffers_out_of_use_is_freed() -> None:
    stage = KernelStage()
    try:
        page = mmap.PAGESIZE
        buffers = BufferRing(stage.ring, 9, 8, 3 * page)
        for view in buffers.views:
            view[:] = b"x" * len(view)
        assert buffers.shrink(5) == [5, 6, 7]
        for bid, view in enumerate(buffers.views):
            assert bytes(view) == (b"\0" if bid > 4 else b"x") * len(view)
        buffers.close()
        assert (buffers.grow(), buffers.shrink(1), buffers.take()) == ([], [], -1)
    finally:
        stage.close()


def test_a_multishot_receive_goes_on_until_the_buffers_end(make_stage: Callable[..., Any]) -> None:
    stage = make_stage(buffers=2)
    stream = stage.stream()
    stage.receive(1, stream.fd, multishot=True)
    for data in (b"a", b"bc"):
        stream.feed(data)
        [(user_data, res, flags)] = stage.gather(1)
        assert (user_data, res, flags & (MORE | F_BUFFER)) == (1, len(data), MORE | F_BUFFER)
        assert stage.ring.inflight == 1
    stream.feed(b"d")
    assert results(stage.gather(1)) == [(1, ENOBUFS)]
    assert stage.ring.inflight == 0
    assert stream.unread() == b"d"


def test_a_multishot_poll_goes_on_until_cancelled(stage: Any) -> None:
    stream = stage.stream()
    stage.put(1, ops.poll_add(stream.fd, select.POLLIN, multishot=True))
    for _ in range(2):
        stream.feed(b"x")
        [(user_data, res, flags)] = stage.gather(1)
        assert (user_data, res & select.POLLIN, flags & MORE) == (1, select.POLLIN, MORE)
    stage.put(2, ops.async_cancel(1))
    assert stage.gather(2) == [(2, 0, 0), (1, ECANCELED, 0)]
    assert stage.ring.inflight == 0


# ---- cancelling -------------------------------------------------------------------------------------------


def test_cancel_by_user_data(stage: Any) -> None:
    stage.receive(1, stage.stream().fd)
    stage.receive(2, stage.stream().fd)
    stage.step()
    stage.put(3, ops.async_cancel(2))
    assert stage.gather(2) == [(3, 0, 0), (2, ECANCELED, 0)]
    assert stage.ring.inflight == 1


def test_cancel_in_the_same_batch(stage: Any) -> None:
    stage.receive(1, stage.stream().fd)
    stage.put(2, ops.async_cancel(1))
    assert stage.gather(2) == [(2, 0, 0), (1, ECANCELED, 0)]


def test_cancel_finds_nothing(stage: Any) -> None:
    stage.put(1, ops.async_cancel(99))
    stage.put(2, ops.async_cancel(99, every=True))
    stage.put(3, ops.async_cancel_all())
    assert results(stage.gather(3)) == [(1, -errno.ENOENT), (2, 0), (3, 0)]


def test_cancel_after_completion_is_harmless(stage: Any) -> None:
    stream = stage.stream()
    stage.receive(1, stream.fd)
    stream.feed(b"x")
    assert results(stage.gather(1)) == [(1, 1)]
    for attempt in (2, 3):
        stage.put(attempt, ops.async_cancel(1))
        assert stage.gather(1) == [(attempt, -errno.ENOENT, 0)]


def test_a_cancel_overtakes_data_whose_deferred_work_has_not_run(stage: Any) -> None:
    stream = stage.stream()
    stage.receive(1, stream.fd)
    stage.step()
    stream.feed(b"x")
    stage.put(2, ops.async_cancel(1))
    assert results(stage.gather(2)) == [(2, 0), (1, ECANCELED)]
    # No buffer was lost to it.
    for i in range(4):
        stream.feed(b"y")
        stage.receive(10 + i, stream.fd)
        assert stage.gather(1)[0][1] > 0


def test_cancel_by_descriptor(stage: Any) -> None:
    stream = stage.stream()
    stage.receive(1, stream.fd)
    stage.put(2, ops.poll_add(stream.fd, select.POLLIN))
    stage.receive(3, stage.stream().fd)
    stage.step()
    stage.put(4, ops.async_cancel_fd(stream.fd, every=True))
    first, *targets = results(stage.gather(3))
    assert first == (4, 2)
    assert sorted(targets) == [(1, ECANCELED), (2, ECANCELED)]
    assert stage.ring.inflight == 1


def test_cancel_one_of_several(stage: Any) -> None:
    stream = stage.stream()
    stage.receive(1, stream.fd)
    stage.receive(2, stream.fd)
    stage.step()
    stage.put(3, ops.async_cancel_fd(stream.fd))
    got = results(stage.gather(2))
    assert got[0] == (3, 0)
    assert got[1] in [(1, ECANCELED), (2, ECANCELED)]
    assert stage.ring.inflight == 1


def test_cancel_everything(stage: Any) -> None:
    for i in range(5):
        stage.receive(i, stage.stream().fd)
    stage.step()
    stage.put(9, ops.async_cancel_all())
    first, *targets = results(stage.gather(6))
    assert first == (9, 5)
    assert sorted(targets) == [(i, ECANCELED) for i in range(5)]
    assert stage.ring.inflight == 0


def test_a_flush_that_runs_work_ends_what_was_cancelled(stage: Any) -> None:
    stage.receive(1, stage.stream().fd)
    stage.step()
    stage.put(2, ops.async_cancel(1))
    assert stage.ring.flush(1) == 1
    enters = stage.ring.counters()["enters"]
    assert results(stage.step()) == [(2, 0), (1, ECANCELED)]
    assert stage.ring.counters()["enters"] == enters


def test_poll_remove(stage: Any) -> None:
    stage.put(1, ops.poll_add(stage.stream().fd, select.POLLIN))
    stage.put(2, ops.poll_remove(1))
    stage.put(3, ops.poll_remove(77))
    assert sorted(results(stage.gather(3))) == [(1, ECANCELED), (2, 0), (3, -errno.ENOENT)]


# ---- taking back ------------------------------------------------------------------------------------------


def test_an_entry_taken_back_does_nothing(stage: Any) -> None:
    stream = stage.stream()
    stream.feed(b"kept")
    stage.put(1, ops.nop())
    stage.receive(2, stream.fd)
    stage.put(3, ops.nop())
    assert stage.ring.unqueue(2) == 1
    assert stage.ring.inflight == 3
    assert stage.gather(3) == [(1, 0, 0), (2, ECANCELED, 0), (3, 0, 0)]
    assert stream.unread() == b"kept"


def test_what_the_kernel_has_cannot_be_taken_back(stage: Any) -> None:
    stage.receive(1, stage.stream().fd)
    stage.step()
    assert stage.ring.unqueue(1) == 0
    assert stage.ring.unqueue(55) == 0
    assert stage.ring.inflight == 1


def test_taking_back_the_head_takes_back_what_is_linked_to_it(stage: Any) -> None:
    stage.put(1, ops.recv(stage.stream().fd, buffer_group=0, read_buffer_size=8).with_flags(LINK))
    stage.put(2, ops.link_timeout(1000))
    stage.put(3, ops.nop())
    assert stage.ring.unqueue(1) == 1
    assert stage.gather(3) == [(1, ECANCELED, 0), (2, ECANCELED, 0), (3, 0, 0)]


# ---- links and time ---------------------------------------------------------------------------------------


def test_a_failure_ends_a_chain(stage: Any) -> None:
    stage.put(1, ops.recv(stage.stream().fd, buffer_group=9, read_buffer_size=8).with_flags(LINK))
    stage.put(2, ops.nop().with_flags(LINK))
    stage.put(3, ops.nop())
    stage.put(4, ops.nop())
    assert sorted(results(stage.gather(4))) == [(1, ENOBUFS), (2, ECANCELED), (3, ECANCELED), (4, 0)]


def test_a_follower_starts_when_the_one_before_has_completed(stage: Any) -> None:
    stream = stage.stream()
    stage.put(1, ops.recv(stream.fd, buffer_group=0, read_buffer_size=8).with_flags(LINK))
    stage.put(2, ops.nop())
    assert stage.step() == []
    assert stage.ring.inflight == 2
    stream.feed(b"x")
    assert results(stage.gather(2)) == [(1, 1), (2, 0)]


def pair(stage: Any, fd: int, seconds: float) -> list[object]:
    timeout = ops.link_timeout(seconds)
    stage.put(1, ops.recv(fd, buffer_group=0, read_buffer_size=8).with_flags(LINK))
    stage.put(2, timeout)
    return [timeout.pins]


def test_a_linked_timeout_fires(stage: Any) -> None:
    held = pair(stage, stage.stream().fd, 0.01)
    if isinstance(stage, ScriptedStage):
        stage.step()
        stage.time_out(1)
    assert results(stage.gather(2)) == [(2, -errno.ETIME), (1, ECANCELED)]
    held.clear()


def test_a_linked_timeout_loses(stage: Any) -> None:
    stream = stage.stream()
    held = pair(stage, stream.fd, 1000)
    stage.step()
    stream.feed(b"x")
    assert results(stage.gather(2)) == [(1, 1), (2, ECANCELED)]
    held.clear()


def test_cancelling_one_with_a_linked_timeout(stage: Any) -> None:
    held = pair(stage, stage.stream().fd, 1000)
    stage.step()
    stage.put(3, ops.async_cancel(1))
    assert results(stage.gather(3)) == [(3, 0), (1, ECANCELED), (2, ECANCELED)]
    held.clear()


def test_a_pair_is_never_split(make_stage: Callable[..., Any]) -> None:
    stage = make_stage(entries=4)
    stream, timeout = stage.stream(), ops.link_timeout(1000)
    for number in range(3):
        stage.put(10 + number, ops.nop())
    receive = stage.ring.template(1, *ops.recv(stream.fd, buffer_group=0, read_buffer_size=8).fields)
    assert stage.ring.queue_pair(receive, stage.ring.template(2, *timeout.fields)) == 0
    # There was room for one: what was queued before has gone, and both are in the queue.
    assert stage.ring.pending == 2
    assert len(stage.gather(3)) == 3
    assert stage.ring.inflight == 2
    stream.feed(b"x")
    assert results(stage.gather(2)) == [(1, 1), (2, ECANCELED)]


def test_a_pair_needs_room_for_two(make_stage: Callable[..., Any]) -> None:
    stage = make_stage(entries=1)
    template = stage.ring.template(1, *ops.nop().fields)
    assert stage.ring.queue_pair(template, template) == -errno.EBUSY
    assert stage.ring.inflight == 0


def test_poll_is_a_cycle_that_does_not_wait(stage: Any) -> None:
    assert stage.ring.poll() == 0
    stage.put(1, ops.nop())
    assert stage.ring.poll() == 1
    assert CQE.unpack_from(stage.ring.out) == (1, 0, 0)


def test_a_timeout_completes_with_etime(stage: Any) -> None:
    op = ops.timeout(0.005)
    stage.put(1, op)
    if isinstance(stage, ScriptedStage):
        stage.step()
        stage.time_out(1)
    assert stage.gather(1) == [(1, -errno.ETIME, 0)]


# ---- closing ----------------------------------------------------------------------------------------------


def test_a_closed_ring_answers_ebadf(stage: Any) -> None:
    template = stage.ring.template(1, *ops.nop().fields)
    stage.buffers.close()
    stage.buffers.close()
    stage.ring.close()
    stage.ring.close()
    assert stage.ring.closed
    assert stage.ring.put(1, *ops.nop().fields) == -errno.EBADF
    assert stage.ring.queue(template) == -errno.EBADF
    assert stage.ring.cycle(0.0) == -errno.EBADF
    assert stage.ring.poll() == -errno.EBADF
    assert stage.ring.queue_pair(template, template) == -errno.EBADF
    assert stage.ring.cycle(1.0) == -errno.EBADF
    assert stage.ring.flush(0) == -errno.EBADF
    assert stage.ring.flush(1) == -errno.EBADF
    assert stage.ring.unqueue(1) == -errno.EBADF
    assert stage.ring.idle() == -errno.EBADF
    assert stage.ring.pending == 0
    assert stage.ring.closed_error().errno == errno.EBADF
    with pytest.raises(ValueError, match="released memoryview"):
        stage.ring.out[:1]


def test_a_group_exists_once(stage: Any) -> None:
    with pytest.raises(FileExistsError):
        type(stage.buffers)(stage.ring, 0, 4, 64)


@pytest.mark.parametrize(("group", "count", "size"), [(-1, 4, 64), (1 << 16, 4, 64), (1, 0, 64), (1, 4, 0)])
def test_bad_groups(stage: Any, group: int, count: int, size: int) -> None:
    with pytest.raises(ValueError):
        type(stage.buffers)(stage.ring, group, count, size)
