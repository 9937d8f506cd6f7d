"""Volleys, registered buffers and direct descriptors: the same on both rings."""

from __future__ import annotations

import errno
from array import array
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.property.support import ORDERS, KernelStage, ScriptedStage, Stage
from uring import abi, ops
from uring.abi.layouts import FILE_INDEX_RANGE, IOVEC, RSRC_REGISTER, RSRC_UPDATE2
from uring.kernel.memory import pin_writable, zeroed
from uring.kernel.ring import CQE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ECANCELED = -errno.ECANCELED
SPARSE = int(abi.IORING_RSRC_REGISTER_SPARSE)
FILES2 = int(abi.IORING_REGISTER_FILES2)
ALLOC_RANGE = int(abi.IORING_REGISTER_FILE_ALLOC_RANGE)
BUFFERS2 = int(abi.IORING_REGISTER_BUFFERS2)
BUFFERS_UPDATE = int(abi.IORING_REGISTER_BUFFERS_UPDATE)


@pytest.fixture(params=[pytest.param(KernelStage, marks=pytest.mark.ring), ScriptedStage])
def make_stage(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    stages = []

    def make(**arguments: Any) -> Any:
        stages.append(request.param(**arguments))
        return stages[-1]

    yield make
    for stage in stages:
        stage.close()


@pytest.fixture
def stage(make_stage: Callable[..., Any]) -> Any:
    return make_stage()


def results(completions: list[tuple[int, int, int]]) -> list[tuple[int, int]]:
    return [(user_data, res) for user_data, res, _ in completions]


# ---- volleys


def nops(stage: Any, *numbers: int) -> Any:
    volley = stage.volley(len(numbers))
    volley.set([ops.nop(result=number).fields for number in numbers])
    return volley


@pytest.mark.parametrize("count", [1, 7, 8, 9, 100])
def test_one_completion_after_the_last_member(make_stage: Callable[..., Any], count: int) -> None:
    stage = make_stage(entries=8)
    volley = nops(stage, *range(count))
    assert not volley.in_flight
    while volley.queue(77) < 0:
        stage.step()
    assert volley.in_flight
    assert stage.gather(1) == [(77, 0, 0)]
    assert volley.results() == [*range(count)]
    assert (volley.in_flight, volley.unfinished(), stage.ring.inflight) == (False, [], 0)
    assert stage.step() == []


def test_a_volley_is_used_again(stage: Any) -> None:
    volley = nops(stage, 1, 2)
    for user_data in (5, 6):
        assert volley.queue(user_data) == 0
        assert stage.gather(1) == [(user_data, 0, 0)]
    assert volley.results() == [1, 2]


def test_a_member_waits_for_data(stage: Any) -> None:
    stream = stage.stream()
    volley = stage.volley(3)
    receive = ops.recv(stream.fd, buffer_group=0, read_buffer_size=8)
    volley.set([ops.nop().fields, receive.fields, ops.nop().fields])
    assert volley.queue(7) == 0
    stage.put(8, ops.nop())
    assert results(stage.gather(1)) == [(8, 0)]
    assert len(volley.unfinished()) == 1
    stream.feed(b"data")
    assert results(stage.gather(1)) == [(7, 0)]
    assert volley.results() == [0, 4, 0]


def test_members_that_the_kernel_has_not_seen_are_taken_back(stage: Any) -> None:
    volley = nops(stage, 1, 2, 3)
    assert volley.queue(5) == 0
    assert volley.unqueue() == 3
    assert stage.gather(1) == [(5, 0, 0)]
    assert volley.results() == [ECANCELED] * 3
    assert volley.unqueue() == 0


def test_members_are_cancelled_one_by_one(stage: Any) -> None:
    volley = stage.volley(2)
    receive = ops.recv(stage.stream().fd, buffer_group=0, read_buffer_size=8)
    volley.set([receive.fields, receive.fields])
    assert volley.queue(5) == 0
    assert stage.step() == []
    for member in volley.unfinished():
        stage.put(9, ops.async_cancel(member))
    assert sorted(results(stage.gather(3))) == [(5, 0), (9, 0), (9, 0)]
    assert volley.results() == [ECANCELED] * 2


def test_a_member_that_fails_ends_its_chain(stage: Any) -> None:
    failing = ops.recv(stage.stream().fd, buffer_group=9, read_buffer_size=8)
    chain = [op.with_flags(int(abi.IOSQE_IO_LINK)).fields for op in (ops.nop(), failing, ops.nop())]
    volley = stage.volley(4)
    volley.set([*chain, ops.nop().fields])
    assert volley.queue(5) == 0
    assert results(stage.gather(1)) == [(5, 0)]
    assert volley.results() == [0, -errno.ENOBUFS, ECANCELED, ECANCELED]


def test_refusals(stage: Any) -> None:
    for count in (0, -1, (1 << 20) + 1):
        with pytest.raises(ValueError):
            stage.volley(count)
    with pytest.raises(ValueError):
        stage.volley(2).fill(22, 0, array("Q", [0, 0, 0]))
    volley = nops(stage, 1)
    stage.buffers.close()
    stage.ring.close()
    assert volley.queue(1) == -errno.EBADF


_volley_action = st.one_of(
    st.tuples(st.just("nops"), st.integers(1, 12)),
    st.tuples(st.just("receives"), st.integers(1, 3)),
    st.tuples(st.sampled_from(["feed", "step", "unqueue", "cancel", "nop"]), st.integers(0, 9)),
)


def play(stage: Stage, actions: list[tuple[str, int]]) -> list[Any]:
    """What each step handed out, and what became of the members of all volleys."""
    streams, volleys, history = [stage.stream() for _ in range(3)], [], []
    for number, (action, argument) in enumerate([*actions, ("step", 0)], 1):
        if action == "nops":
            volleys.append(nops(stage, *range(argument)))
            assert volleys[-1].queue(number) == 0
        elif action == "receives":
            # Each has a stream of its own: which of several gets the data is the kernel's affair.
            streams += [stage.stream() for _ in range(argument)]
            ours = streams[-argument:]
            volleys.append(stage.volley(argument))
            volleys[-1].set([ops.recv(s.fd, buffer_group=0, read_buffer_size=8).fields for s in ours])
            assert volleys[-1].queue(number) == 0
        elif action == "feed":
            streams[argument % len(streams)].feed(b"data")
        elif action == "unqueue" and volleys:
            history.append(volleys[argument % len(volleys)].unqueue())
        elif action == "cancel" and volleys:
            for member in volleys[argument % len(volleys)].unfinished():
                stage.put(1000, ops.async_cancel(member))
        elif action == "nop":
            stage.put(number, ops.nop())
        elif action == "step":
            n = stage.ring.cycle(0.0)
            history.append(sorted(CQE.iter_unpack(stage.ring.out[: n * CQE.size])))
    return [*history, [volley.results() for volley in volleys], stage.ring.inflight]


@pytest.mark.ring
@settings(max_examples=ORDERS, deadline=None)
@given(st.lists(_volley_action, max_size=15))
def test_both_rings_tell_the_same_of_volleys(actions: list[tuple[str, int]]) -> None:
    histories = []
    for make in (KernelStage, ScriptedStage):
        stage = make(entries=64, buffers=64)
        try:
            histories.append(play(stage, actions))
        finally:
            stage.close()
    assert histories[0] == histories[1]


# ---- direct descriptors


def make_table(stage: Any, count: int, first: int = 0) -> None:
    table, chosen = zeroed(RSRC_REGISTER.size), zeroed(FILE_INDEX_RANGE.size)
    RSRC_REGISTER.pack_into(table.view, 0, count, SPARSE, 0, 0)
    assert stage.ring.register(FILES2, table.address, RSRC_REGISTER.size, "files") == 0
    FILE_INDEX_RANGE.pack_into(chosen.view, 0, first, count - first)
    assert stage.ring.register(ALLOC_RANGE, chosen.address, 0, "range") == 0


def one(stage: Any, op: ops.Op) -> int:
    """The result of an operation that does not wait."""
    stage.put(1, op)
    found = stage.step()
    if isinstance(stage, ScriptedStage) and not found:
        stage.ring.complete(stage.ring.find(user_data=1), 0)
    [(_, res, _)] = found or stage.gather(1)
    return int(res)


def test_slots_are_filled_and_emptied(stage: Any) -> None:
    make_table(stage, 4, 1)
    make = ops.socket_direct
    assert one(stage, make(2, 1, file_index=0)) == 0
    assert [one(stage, make(2, 1, file_index=abi.IORING_FILE_INDEX_ALLOC)) for _ in range(3)] == [1, 2, 3]
    assert one(stage, make(2, 1, file_index=abi.IORING_FILE_INDEX_ALLOC)) == -errno.ENFILE
    assert one(stage, ops.close_direct(2)) == 0
    assert one(stage, ops.close_direct(2)) == -errno.EBADF
    assert one(stage, make(2, 1, file_index=abi.IORING_FILE_INDEX_ALLOC)) == 2
    assert one(stage, make(2, 1, file_index=7)) == -errno.EINVAL
    assert one(stage, ops.close_direct(7)) == -errno.EINVAL


def test_an_empty_slot_is_a_bad_descriptor(stage: Any) -> None:
    assert one(stage, ops.close_direct(0)) == -errno.ENXIO
    make_table(stage, 2)
    assert one(stage, ops.recv(1, bytearray(4), fixed_file=True)) == -errno.EBADF
    assert one(stage, ops.recv(9, bytearray(4), fixed_file=True)) == -errno.EBADF


def test_a_table_is_made_once(stage: Any) -> None:
    make_table(stage, 2)
    with pytest.raises(OSError) as caught:
        make_table(stage, 2)
    assert caught.value.errno == errno.EBUSY
    with pytest.raises(OSError) as caught:
        stage.ring.register(999, None, 0, "nothing")
    assert caught.value.errno == errno.EINVAL


# ---- registered buffers


def register_buffer(stage: Any, slot: int, memory: bytearray | None) -> int:
    vector, update = zeroed(IOVEC.size), zeroed(RSRC_UPDATE2.size)
    address, length = pin_writable(memory)[:2] if memory is not None else (0, 0)
    IOVEC.pack_into(vector.view, 0, address, length)
    RSRC_UPDATE2.pack_into(update.view, 0, slot, vector.address, 0, 1)
    result: int = stage.ring.register(BUFFERS_UPDATE, update.address, RSRC_UPDATE2.size, "buffers")
    return result


def test_what_is_not_in_a_registered_buffer_is_refused(stage: Any) -> None:
    memory, other = bytearray(64), bytearray(64)
    with pytest.raises(OSError) as caught:
        register_buffer(stage, 0, memory)
    assert caught.value.errno == errno.ENXIO
    table = zeroed(RSRC_REGISTER.size)
    RSRC_REGISTER.pack_into(table.view, 0, 2, SPARSE, 0, 0)
    assert stage.ring.register(BUFFERS2, table.address, RSRC_REGISTER.size, "buffers") == 0
    assert register_buffer(stage, 1, memory) == 1
    fd = stage.stream().fd
    assert one(stage, ops.read_fixed(fd, other, buf_index=1)) == -errno.EFAULT
    assert one(stage, ops.read_fixed(fd, memory, buf_index=0)) == -errno.EFAULT
    with pytest.raises(OSError):
        register_buffer(stage, 2, memory)
    assert register_buffer(stage, 1, None) == 1
    assert one(stage, ops.read_fixed(fd, memory, buf_index=1)) == -errno.EFAULT
