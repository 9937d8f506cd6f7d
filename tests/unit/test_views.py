"""Completions and entries, accessor by accessor."""

from __future__ import annotations

import pytest

from uring import (
    ContextPools,
    CQEView,
    DirectCQE,
    ExtCQE,
    abi,
    ops,
    pack_direct,
    pack_extended,
    view_ext_sqe,
    view_sqe,
)
from uring.contexts.context import REQUEST_VALUES

RECV = int(abi.IORING_OP_RECV)
SELECT = int(abi.IOSQE_BUFFER_SELECT)
DIRECT = pack_direct(RECV, SELECT, 9, -3)
KINDS = [CQEView, DirectCQE, ExtCQE]

FLAGS = {
    "has_buffer": abi.IORING_CQE_F_BUFFER,
    "has_more": abi.IORING_CQE_F_MORE,
    "socket_nonempty": abi.IORING_CQE_F_SOCK_NONEMPTY,
    "is_notification": abi.IORING_CQE_F_NOTIF,
    "has_buffer_more": abi.IORING_CQE_F_BUF_MORE,
}


@pytest.mark.parametrize("kind", KINDS)
def test_flags_of_a_completion(kind):
    """Each flag is told by its own accessor, and by no other."""
    for flag in FLAGS.values():
        cqe = kind((DIRECT, 5, flag))
        told = (cqe.has_buffer, cqe.has_more, cqe.socket_nonempty, cqe.is_notification, cqe.has_buffer_more)
        assert told == tuple(flag is each for each in FLAGS.values())


@pytest.mark.parametrize("kind", KINDS)
def test_result_of_a_completion(kind):
    cqe = kind((DIRECT, -5, 77 << abi.IORING_CQE_BUFFER_SHIFT | abi.IORING_CQE_F_BUFFER))
    assert (cqe.user_data, cqe.res, cqe.buf_id) == (DIRECT, -5, 77)
    assert cqe.flags == 77 << 16 | 1
    assert not cqe.is_success
    assert kind((DIRECT, 0, 0)).is_success
    assert cqe.big_cqe == (0, 0)
    assert kind((DIRECT, 0, 0, 6, 7)).big_cqe == (6, 7)


def test_a_view_of_a_direct_completion():
    cqe = CQEView((DIRECT, 40, 3 << 16 | abi.IORING_CQE_F_BUFFER))
    assert (cqe.op, cqe.fd, cqe.buf_group, cqe.context) == (RECV, -3, 9, DIRECT)
    assert not cqe.full_sqe
    assert not cqe.extended
    assert not cqe.sqe.valid
    assert (cqe.bundle_start_id, cqe.bundle_count(16), cqe.bundle_buffers(16)) == (3, 3, (3, 3))
    for call in (lambda: cqe.ext_sqe, lambda: cqe.indirect_sqe, lambda: cqe.sqe.opcode):
        with pytest.raises(LookupError):
            call()
    with pytest.raises(ValueError, match="1 byte or more, not 0"):
        cqe.bundle_count(0)


def test_a_direct_completion():
    cqe = DirectCQE((DIRECT, 1, 0))
    assert (cqe.op, cqe.sqe_flags, cqe.buf_group, cqe.fd) == (RECV, SELECT, 9, -3)


def test_the_number_of_a_slot_or_request_is_not_read_as_fields():
    pools = ContextPools(1)
    for raw in (pools.indirect().context, pools.extended().context, REQUEST_VALUES + 5):
        cqe = DirectCQE((raw, 0, 0))
        for name in ("op", "sqe_flags", "buf_group", "fd"):
            with pytest.raises(LookupError, match="has no fields"):
                getattr(cqe, name)


def test_an_extended_completion():
    ext = ContextPools(1).extended()
    ext.prepare(ops.recv(6, bytearray(4)))
    cqe = ExtCQE((pack_extended(ext), 4, 0))
    assert cqe.ext is ext
    assert (cqe.op, cqe.fd) == (RECV, 6)
    view = CQEView(cqe)
    assert view.full_sqe
    assert view.extended
    assert view.ext_sqe is ext
    ext.pool.put_extended(ext)
    with pytest.raises(LookupError):
        _ = cqe.ext


def test_fields_of_an_entry():
    slot = ContextPools(1).indirect()
    memory = bytearray(10)
    op = ops.read_fixed(4, memory, 3, offset=7, n=9, rw_flags=5, ioprio=6, fixed_file=True)
    slot.prepare(op.with_personality(8))
    view = view_sqe(slot)
    assert view.valid
    assert (view.opcode, view.fd, view.raw_fd) == (abi.IORING_OP_READ_FIXED, 4, 4)
    assert (view.off, view.len, view.uflags, view.ioprio) == (7, 9, 5, 6)
    assert (view.buf_index, view.personality) == (3, 8)
    assert view.addr == op.fields[4] != 0
    assert view.user_data == slot.context
    assert view.flags == abi.IOSQE_FIXED_FILE
    slot.prepare(ops.recv(4, buffer_group=12))
    assert view_sqe(slot).buf_group == 12
    slot.prepare(ops.splice(5, 6, 1))
    assert view_sqe(slot).splice_fd_in == 5
    slot.prepare(ops.socket_direct(1, 1, file_index=5))
    assert view_sqe(slot).file_index == 6, "one more than the slot: 0 stands for none"
    slot.prepare(ops.msg_ring_fd(3, 11))
    assert view_sqe(slot).addr3 == 11


def test_flags_of_an_entry():
    ext = ContextPools(1).extended()
    names = {
        "has_fixed_file": abi.IOSQE_FIXED_FILE,
        "has_io_drain": abi.IOSQE_IO_DRAIN,
        "has_io_link": abi.IOSQE_IO_LINK,
        "has_io_hardlink": abi.IOSQE_IO_HARDLINK,
        "has_async": abi.IOSQE_ASYNC,
        "has_buffer_select": abi.IOSQE_BUFFER_SELECT,
        "has_cqe_skip_success": abi.IOSQE_CQE_SKIP_SUCCESS,
    }
    for flag in names.values():
        ext.prepare(ops.nop().with_flags(flag))
        view = view_ext_sqe(ext)
        told = {
            "has_fixed_file": view.has_fixed_file,
            "has_io_drain": view.has_io_drain,
            "has_io_link": view.has_io_link,
            "has_io_hardlink": view.has_io_hardlink,
            "has_async": view.has_async,
            "has_buffer_select": view.has_buffer_select,
            "has_cqe_skip_success": view.has_cqe_skip_success,
        }
        assert told == {name: flag is each for name, each in names.items()}
