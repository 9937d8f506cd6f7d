"""Contexts: the exact layout, the life of slots, and the 36 shapes."""

import ctypes
import gc
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uring import (
    CTX_MODE_DIRECT,
    ContextPools,
    PoolExhausted,
    ScopedExtSQE,
    SQEContext,
    cast_user_data,
    context_user_data,
    context_with_user_data,
    for_fd,
    ops,
    pack_direct,
    pack_extended,
    pack_indirect,
    view_ext_sqe,
    view_sqe,
)
from uring.contexts import pools
from uring.contexts.views import CQEView, DirectCQE, ExtCQE

ops_ = st.integers(0, 255)
groups = st.integers(0, 0xFFFF)
fds = st.integers(-(1 << 29), (1 << 29) - 1)


@given(ops_, ops_, groups, fds)
def test_direct_round_trip(op: int, flags: int, group: int, fd: int) -> None:
    ctx = pack_direct(op, flags, group, fd)
    assert (ctx.op, ctx.flags, ctx.buf_group, ctx.fd) == (op, flags, group, fd)
    assert ctx == op | flags << 8 | group << 16 | (fd & 0x3FFFFFFF) << 32
    assert ctx.mode == CTX_MODE_DIRECT
    assert ctx.is_direct
    assert not ctx.is_indirect
    assert not ctx.is_extended
    assert SQEContext.from_raw(ctx.raw) == ctx
    assert for_fd(fd).with_op(op).with_flags(flags).with_buf_group(group) == ctx
    assert ctx.with_fd(7).fd == 7
    assert ctx.has_buffer_select == bool(flags & 32)
    cqe = DirectCQE((ctx, -5, 0x30001))
    assert (cqe.op, cqe.sqe_flags, cqe.buf_group, cqe.fd) == (op, flags, group, fd)
    assert (cqe.res, cqe.is_success, cqe.has_buffer, cqe.buf_id) == (-5, False, True, 3)


def test_the_fields_of_a_slot_that_was_given_back_are_a_miss() -> None:
    lender = ContextPools(2)
    for slot in (lender.indirect(), lender.extended()):
        slot.prepare(ops.recv(7, buffer_group=3))
        ctx, cqe = slot.context, CQEView((slot.context, 0, 0))
        sqe = cqe.sqe
        assert (ctx.fd, ctx.buf_group, cqe.fd, sqe.fd) == (7, 3, 7, 7)
        assert sqe.valid
        slot.pool.put_extended(slot) if ctx.is_extended else slot.pool.put_indirect(slot)
        for read in (
            lambda ctx=ctx: ctx.op,
            lambda ctx=ctx: ctx.fd,
            lambda ctx=ctx: ctx.flags,
            lambda ctx=ctx: ctx.buf_group,
            lambda ctx=ctx: ctx.has_buffer_select,
            lambda cqe=cqe: cqe.op,
            lambda cqe=cqe: cqe.fd,
            lambda cqe=cqe: cqe.buf_group,
            lambda sqe=sqe: sqe.fd,
            lambda sqe=sqe: sqe.user_data,
        ):
            with pytest.raises(LookupError, match="given back"):
                read()
        assert not sqe.valid
        assert "generation=0" in repr(ctx)
        repr(cqe)


@pytest.mark.parametrize(
    "fields",
    [
        (256, 0, 0, 0),
        (-1, 0, 0, 0),
        (0, 256, 0, 0),
        (0, 0, 65536, 0),
        (0, 0, 0, 1 << 29),
        (0, 0, 0, -(1 << 30)),
    ],
)
def test_direct_fields_out_of_range(fields: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match=r"is -?\d+ to \d+, not"):
        pack_direct(*fields)


@pytest.mark.parametrize("value", [-1, 1 << 64])
def test_raw_out_of_range(value: int) -> None:
    with pytest.raises(ValueError, match="64 bits"):
        SQEContext(value)


@pytest.mark.parametrize("value", ["1", 1.0, True, None])
def test_direct_fields_of_wrong_type(value: object) -> None:
    with pytest.raises(TypeError, match="is an int"):
        pack_direct(value)  # type: ignore[arg-type]


@given(st.integers(0, (1 << 64) - 1))
def test_any_completion_can_be_looked_at(raw: int) -> None:
    """A forged value names no slot, and nothing is dereferenced."""
    ctx = SQEContext(raw)
    assert ctx.mode == raw & 3 << 62
    assert repr(ctx)
    cqe = CQEView((raw, 0, 0))
    assert repr(cqe)
    assert cqe.full_sqe == (ctx.is_indirect or ctx.is_extended)
    assert cqe.extended == ctx.is_extended
    assert not cqe.sqe.valid
    if cqe.full_sqe:
        with pytest.raises(LookupError):
            _ = cqe.op
    else:
        assert 0 <= cqe.op <= 255
    with pytest.raises(LookupError):
        _ = cqe.ext_sqe
    with pytest.raises(LookupError):
        _ = ExtCQE((raw, 0, 0)).ext


def test_pools_run_out_and_refill() -> None:
    pool = ContextPools(2)
    assert (pool.capacity, pool.indirect_available, pool.extended_available) == (2, 2, 2)
    first, second = pool.extended(), pool.extended()
    with pytest.raises(PoolExhausted, match="2 slots"):
        pool.extended()
    assert (pool.indirect_available, pool.extended_available) == (2, 0)
    pool.put_extended(first)
    third = pool.extended()
    assert third is not first
    assert third.context != first.context
    assert third.context & 0xFFFFFF == first.context & 0xFFFFFF, "the same slot under another generation"
    assert not first.valid
    assert second.valid
    with pytest.raises(LookupError):
        _ = first.context.ext_sqe
    with pytest.raises(ValueError, match="given back already"):
        pool.put_extended(first)
    pool.reset()
    assert pool.extended_available == 2
    assert not second.valid


def test_slot_in_flight_cannot_be_given_back() -> None:
    pool = ContextPools(1)
    slot = pool.indirect()
    slot.in_flight = True
    with pytest.raises(RuntimeError, match="in flight"):
        pool.put_indirect(slot)
    with pytest.raises(RuntimeError, match="in flight"):
        pool.reset()
    with pytest.raises(RuntimeError, match="in flight"):
        slot.context.with_op(1)
    slot.in_flight = False
    pool.put_indirect(slot)


def test_pool_of_another_cannot_take_a_slot() -> None:
    mine, other = ContextPools(1), ContextPools(1)
    slot = mine.extended()
    with pytest.raises(ValueError, match="not borrowed from this pool"):
        other.put_extended(slot)
    mine.put_extended(slot)


def test_contexts_of_a_pool_that_is_gone_name_nothing() -> None:
    context = ContextPools(1).extended().context
    gc.collect()
    with pytest.raises(LookupError):
        _ = context.ext_sqe


def test_numbers_of_pools_that_come_round_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two living pools never share one, or a context would name a slot of the wrong one."""
    old = ContextPools(1)
    slot = old.extended()
    number = slot.context >> 44 & (1 << 18) - 1
    monkeypatch.setattr(pools, "_numbers", itertools.count(number + (1 << 18)))
    new = ContextPools(1)
    other = new.extended()
    assert other.context != slot.context
    assert slot.context.ext_sqe is slot
    assert other.context.ext_sqe is other


@pytest.mark.parametrize("capacity", [0, -1, (1 << 24) + 1])
def test_pool_capacity(capacity: int) -> None:
    with pytest.raises(ValueError, match="capacity"):
        ContextPools(capacity)


def test_slot_remembers_its_entry() -> None:
    pool = ContextPools(1)
    slot = pool.indirect()
    ctx = pack_indirect(slot)
    assert ctx.is_indirect
    assert ctx.indirect_sqe is slot
    assert ctx.with_op(22).with_flags(32).with_fd(9).with_buf_group(4) is ctx
    assert (ctx.op, ctx.flags, ctx.fd, ctx.buf_group, ctx.has_buffer_select) == (22, 32, 9, 4, True)
    view = view_sqe(slot)
    assert (view.opcode, view.flags, view.fd, view.raw_fd, view.buf_group) == (22, 32, 9, 9, 4)
    assert view.has_buffer_select
    assert not view.has_io_link
    assert view.valid
    assert view.user_data == ctx
    cqe = CQEView((ctx, 3, 2))
    assert (cqe.op, cqe.fd, cqe.buf_group, cqe.has_more) == (22, 9, 4, True)
    with pytest.raises(TypeError, match="ExtSQE"):
        pack_extended(slot)  # type: ignore[arg-type]
    ext = pool.extended()
    with pytest.raises(TypeError, match="IndirectSQE"):
        pack_indirect(ext)
    data = bytearray(8)
    ext.prepare(ops.read(5, data, offset=77).with_flags(0x5F).with_personality(3))
    entry = view_ext_sqe(ext)
    assert (entry.opcode, entry.fd, entry.off, entry.len, entry.personality) == (22, 5, 77, 8, 3)
    assert entry.has_fixed_file
    assert entry.has_io_drain
    assert entry.has_io_link
    assert entry.has_io_hardlink
    assert entry.has_async
    assert entry.has_cqe_skip_success
    assert entry.addr != 0
    assert (
        entry.ioprio,
        entry.uflags,
        entry.buf_index,
        entry.splice_fd_in,
        entry.file_index,
        entry.addr3,
    ) == (0,) * 6


def test_view_of_a_direct_completion_has_no_entry() -> None:
    view = CQEView((pack_direct(22), 0, 0)).sqe
    assert not view.valid
    with pytest.raises(LookupError, match="no entry is kept"):
        _ = view.opcode


@pytest.mark.parametrize(("refs", "vals"), [(r, v) for r in range(8) for v in range(8 - r)])
def test_every_shape(refs: int, vals: int) -> None:
    pool = ContextPools(1)
    ext = pool.extended()
    ctx = ext.ctx(refs=refs, vals=vals)
    marker = object()
    ctx.fn = len
    for i in range(1, refs + 1):
        setattr(ctx, f"ref{i}", (marker, i))
    for i in range(1, vals + 1):
        setattr(ctx, f"val{i}", -(1 << 63) + i)
    assert len(ctx.data) == 56 - 8 * (refs + vals)
    ctx.data[:] = b"\xff" * len(ctx.data)
    again = pack_extended(ext).ext_sqe.ctx(refs, vals)
    assert again.fn is len
    assert [getattr(again, f"ref{i}") for i in range(1, refs + 1)] == [
        (marker, i) for i in range(1, refs + 1)
    ]
    assert [getattr(again, f"val{i}") for i in range(1, vals + 1)] == [
        -(1 << 63) + i for i in range(1, vals + 1)
    ]
    assert bytes(again.data) == b"\xff" * (56 - 8 * (refs + vals))
    assert len(ext.user_data) == 64
    for missing in (f"ref{refs + 1}", f"val{vals + 1}"):
        if missing[-1] != "8":
            with pytest.raises(AttributeError):
                getattr(ctx, missing)
            with pytest.raises(AttributeError):
                setattr(ctx, missing, 1)
    pool.put_extended(ext)
    assert ext.sidecar == [None] * 8, "references are dropped with the slot"


@pytest.mark.parametrize(("refs", "vals"), [(-1, 0), (0, -1), (8, 0), (0, 8), (4, 4)])
def test_no_such_shape(refs: int, vals: int) -> None:
    with pytest.raises(ValueError, match="7 at most"):
        ContextPools(1).extended().ctx(refs, vals)


def test_numbers_that_do_not_fit() -> None:
    pool = ContextPools(1)
    ctx = pool.extended().ctx(vals=1)
    with pytest.raises(ValueError, match="64 bits"):
        ctx.val1 = 1 << 63
    with pytest.raises(TypeError, match="is an int"):
        ctx.val1 = "x"  # type: ignore[assignment]


def test_user_data_as_a_structure() -> None:
    class Request(ctypes.Structure):
        _fields_ = [("number", ctypes.c_uint32), ("size", ctypes.c_uint64)]

    pool = ContextPools(1)
    ext = pool.extended()
    cast_user_data(ext, Request).size = 12
    assert cast_user_data(ext, Request).size == 12
    with pytest.raises(ValueError, match="64"):
        cast_user_data(ext, ctypes.c_char * 65)
    with pytest.raises(TypeError, match="ctypes"):
        cast_user_data(ext, int)


def test_scope_gives_the_slot_back_unless_submitted() -> None:
    pool = ContextPools(1)
    with ScopedExtSQE(pool.extended()) as scope:
        assert scope.valid
    assert pool.extended_available == 1
    assert not scope.valid
    with ScopedExtSQE(pool.extended()) as scope:
        scope.submitted()
    scope.release()
    assert pool.extended_available == 0
    pool.put_extended(scope.ext)


def test_typed_values_of_a_context() -> None:
    import contextvars

    bare = contextvars.copy_context()
    one = context_with_user_data(bare, 5)
    two = context_with_user_data(one, "x")
    assert (context_user_data(two, int), context_user_data(two, str)) == (5, "x")
    assert context_user_data(one, str) is None
    assert context_user_data(bare, int) is None
