"""Sizes and field offsets of the structures that cross the io_uring boundary, and packers for them.

STRUCTS describes each structure as it lies in memory on 64-bit Linux; names are the kernel's, fields of one
union share an offset, and a flexible array at the end has size 0. Zero-copy receive control and the queries
beyond opcodes need Linux 6.19, filters of requests 7.0, events of zero-copy receive 7.2.

A packer (struct.Struct, native order, no implied alignment) covers the whole structure: reserved fields and
padding are zero, as the kernel requires. Packers are for structures packed from few values or read from a
buffer; the C shim writes the entries.
"""

from struct import Struct
from typing import Final, NamedTuple

__all__ = [
    "ATTR_PI",
    "BPF",
    "BUF",
    "BUF_REG",
    "BUF_STATUS",
    "CLOCK_REGISTER",
    "CLONE_BUFFERS",
    "EPOLL_EVENT",
    "FILE_INDEX_RANGE",
    "FUTEX_WAITV",
    "GETEVENTS_ARG",
    "IOVEC",
    "KERNEL_TIMESPEC",
    "MEM_REGION_REG",
    "MSGHDR",
    "NAPI",
    "OPEN_HOW",
    "PROBE",
    "PROBE_OP",
    "QUERY_HDR",
    "QUERY_OPCODE",
    "QUERY_SCQ",
    "QUERY_ZCRX",
    "QUERY_ZCRX_EVENT",
    "RECVMSG_OUT",
    "REGION_DESC",
    "REG_WAIT",
    "RESTRICTION",
    "RSRC_REGISTER",
    "RSRC_UPDATE",
    "RSRC_UPDATE2",
    "SOCK_FILTER",
    "STATX",
    "STRUCTS",
    "SYNC_CANCEL_REG",
    "ZCRX_AREA_REG",
    "ZCRX_CQE",
    "ZCRX_CTRL",
    "ZCRX_EVENT_DESC",
    "ZCRX_IFQ_REG",
    "ZCRX_RQE",
    "ZCRX_STATS",
    "Layout",
]


class Layout(NamedTuple):
    """One structure: its size, and (offset, size) of each field by name, all in bytes."""

    size: int
    fields: dict[str, tuple[int, int]]


# fmt: off
STRUCTS: Final[dict[str, Layout]] = {
    # Set-up and the mapped rings.
    "io_sqring_offsets": Layout(
        40,
        {
            "head": (0, 4), "tail": (4, 4), "ring_mask": (8, 4), "ring_entries": (12, 4), "flags": (16, 4),
            "dropped": (20, 4), "array": (24, 4), "resv1": (28, 4), "user_addr": (32, 8),
        },
    ),
    "io_cqring_offsets": Layout(
        40,
        {
            "head": (0, 4), "tail": (4, 4), "ring_mask": (8, 4), "ring_entries": (12, 4), "overflow": (16, 4),
            "cqes": (20, 4), "flags": (24, 4), "resv1": (28, 4), "user_addr": (32, 8),
        },
    ),
    "io_uring_params": Layout(
        120,
        {
            "sq_entries": (0, 4), "cq_entries": (4, 4), "flags": (8, 4), "sq_thread_cpu": (12, 4),
            "sq_thread_idle": (16, 4), "features": (20, 4), "wq_fd": (24, 4), "resv": (28, 12),
            "sq_off": (40, 40), "cq_off": (80, 40),
        },
    ),
    # Entries.
    "io_uring_sqe": Layout(
        64,
        {
            "opcode": (0, 1), "flags": (1, 1), "ioprio": (2, 2), "fd": (4, 4), "off": (8, 8), "addr2": (8, 8),
            "cmd_op": (8, 4), "__pad1": (12, 4), "addr": (16, 8), "splice_off_in": (16, 8), "level": (16, 4),
            "optname": (20, 4), "len": (24, 4), "rw_flags": (28, 4), "fsync_flags": (28, 4),
            "poll_events": (28, 2), "poll32_events": (28, 4), "sync_range_flags": (28, 4),
            "msg_flags": (28, 4), "timeout_flags": (28, 4), "accept_flags": (28, 4), "cancel_flags": (28, 4),
            "open_flags": (28, 4), "statx_flags": (28, 4), "fadvise_advice": (28, 4), "splice_flags": (28, 4),
            "rename_flags": (28, 4), "unlink_flags": (28, 4), "hardlink_flags": (28, 4),
            "xattr_flags": (28, 4), "msg_ring_flags": (28, 4), "uring_cmd_flags": (28, 4),
            "waitid_flags": (28, 4), "futex_flags": (28, 4), "install_fd_flags": (28, 4),
            "nop_flags": (28, 4), "pipe_flags": (28, 4), "user_data": (32, 8), "buf_index": (40, 2),
            "buf_group": (40, 2), "personality": (42, 2), "splice_fd_in": (44, 4), "file_index": (44, 4),
            "zcrx_ifq_idx": (44, 4), "optlen": (44, 4), "addr_len": (44, 2), "__pad3": (46, 2),
            "write_stream": (44, 1), "__pad4": (45, 3), "addr3": (48, 8), "__pad2": (56, 8),
            "attr_ptr": (48, 8), "attr_type_mask": (56, 8), "optval": (48, 8), "cmd": (48, 0),
        },
    ),
    "io_uring_attr_pi": Layout(
        32,
        {
            "flags": (0, 2), "app_tag": (2, 2), "len": (4, 4), "addr": (8, 8), "seed": (16, 8),
            "rsvd": (24, 8),
        },
    ),
    "io_uring_cqe": Layout(16, {"user_data": (0, 8), "res": (8, 4), "flags": (12, 4), "big_cqe": (16, 0)}),
    # Waiting.
    "__kernel_timespec": Layout(16, {"tv_sec": (0, 8), "tv_nsec": (8, 8)}),
    "io_uring_getevents_arg": Layout(
        24,
        {
            "sigmask": (0, 8), "sigmask_sz": (8, 4), "min_wait_usec": (12, 4), "ts": (16, 8),
        },
    ),
    "io_uring_reg_wait": Layout(
        64,
        {
            "ts": (0, 16), "min_wait_usec": (16, 4), "flags": (20, 4), "sigmask": (24, 8),
            "sigmask_sz": (32, 4), "pad": (36, 12), "pad2": (48, 16),
        },
    ),
    # Registration.
    "io_uring_rsrc_register": Layout(
        32,
        {
            "nr": (0, 4), "flags": (4, 4), "resv2": (8, 8), "data": (16, 8), "tags": (24, 8),
        },
    ),
    "io_uring_rsrc_update": Layout(16, {"offset": (0, 4), "resv": (4, 4), "data": (8, 8)}),
    "io_uring_rsrc_update2": Layout(
        32,
        {
            "offset": (0, 4), "resv": (4, 4), "data": (8, 8), "tags": (16, 8), "nr": (24, 4),
            "resv2": (28, 4),
        },
    ),
    "io_uring_probe_op": Layout(8, {"op": (0, 1), "resv": (1, 1), "flags": (2, 2), "resv2": (4, 4)}),
    "io_uring_probe": Layout(
        16,
        {
            "last_op": (0, 1), "ops_len": (1, 1), "resv": (2, 2), "resv2": (4, 12), "ops": (16, 0),
        },
    ),
    "io_uring_restriction": Layout(
        16,
        {
            "opcode": (0, 2), "register_op": (2, 1), "sqe_op": (2, 1), "sqe_flags": (2, 1), "resv": (3, 1),
            "resv2": (4, 12),
        },
    ),
    "io_uring_sync_cancel_reg": Layout(
        64,
        {
            "addr": (0, 8), "fd": (8, 4), "flags": (12, 4), "timeout": (16, 16), "opcode": (32, 1),
            "pad": (33, 7), "pad2": (40, 24),
        },
    ),
    "io_uring_file_index_range": Layout(16, {"off": (0, 4), "len": (4, 4), "resv": (8, 8)}),
    "io_uring_napi": Layout(
        16,
        {
            "busy_poll_to": (0, 4), "prefer_busy_poll": (4, 1), "opcode": (5, 1), "pad": (6, 2),
            "op_param": (8, 4), "resv": (12, 4),
        },
    ),
    "io_uring_clock_register": Layout(16, {"clockid": (0, 4), "__resv": (4, 12)}),
    "io_uring_clone_buffers": Layout(
        32,
        {
            "src_fd": (0, 4), "flags": (4, 4), "src_off": (8, 4), "dst_off": (12, 4), "nr": (16, 4),
            "pad": (20, 12),
        },
    ),
    "io_uring_region_desc": Layout(
        64,
        {
            "user_addr": (0, 8), "size": (8, 8), "flags": (16, 4), "id": (20, 4), "mmap_offset": (24, 8),
            "__resv": (32, 32),
        },
    ),
    "io_uring_mem_region_reg": Layout(32, {"region_uptr": (0, 8), "flags": (8, 8), "__resv": (16, 16)}),
    # Provided buffers.
    "io_uring_buf": Layout(16, {"addr": (0, 8), "len": (8, 4), "bid": (12, 2), "resv": (14, 2)}),
    "io_uring_buf_ring": Layout(
        16,
        {
            "resv1": (0, 8), "resv2": (8, 4), "resv3": (12, 2), "tail": (14, 2), "bufs": (0, 0),
        },
    ),
    "io_uring_buf_reg": Layout(
        40,
        {
            "ring_addr": (0, 8), "ring_entries": (8, 4), "bgid": (12, 2), "flags": (14, 2),
            "min_left": (16, 4), "resv": (20, 20),
        },
    ),
    "io_uring_buf_status": Layout(40, {"buf_group": (0, 4), "head": (4, 4), "resv": (8, 32)}),
    # Queries.
    "io_uring_query_hdr": Layout(
        40,
        {
            "next_entry": (0, 8), "query_data": (8, 8), "query_op": (16, 4), "size": (20, 4),
            "result": (24, 4), "__resv": (28, 12),
        },
    ),
    "io_uring_query_opcode": Layout(
        48,
        {
            "nr_request_opcodes": (0, 4), "nr_register_opcodes": (4, 4), "feature_flags": (8, 8),
            "ring_setup_flags": (16, 8), "enter_flags": (24, 8), "sqe_flags": (32, 8),
            "nr_query_opcodes": (40, 4), "__pad": (44, 4),
        },
    ),
    "io_uring_query_zcrx": Layout(
        40,
        {
            "register_flags": (0, 8), "area_flags": (8, 8), "nr_ctrl_opcodes": (16, 4), "features": (20, 4),
            "rq_hdr_size": (24, 4), "rq_hdr_alignment": (28, 4), "__resv": (32, 8),
        },
    ),
    "io_uring_query_zcrx_event": Layout(
        48,
        {
            "event_flags": (0, 4), "stats_size": (4, 4), "stats_off_alignment": (8, 4), "__resv1": (12, 4),
            "__resv2": (16, 32),
        },
    ),
    "io_uring_query_scq": Layout(16, {"hdr_size": (0, 8), "hdr_alignment": (8, 8)}),
    # Zero-copy receive.
    "io_uring_zcrx_rqe": Layout(16, {"off": (0, 8), "len": (8, 4), "__pad": (12, 4)}),
    "io_uring_zcrx_cqe": Layout(16, {"off": (0, 8), "__pad": (8, 8)}),
    "io_uring_zcrx_offsets": Layout(
        32,
        {
            "head": (0, 4), "tail": (4, 4), "rqes": (8, 4), "__resv2": (12, 4), "__resv": (16, 16),
        },
    ),
    "io_uring_zcrx_area_reg": Layout(
        48,
        {
            "addr": (0, 8), "len": (8, 8), "rq_area_token": (16, 8), "flags": (24, 4), "dmabuf_fd": (28, 4),
            "__resv2": (32, 16),
        },
    ),
    "io_uring_zcrx_ifq_reg": Layout(
        96,
        {
            "if_idx": (0, 4), "if_rxq": (4, 4), "rq_entries": (8, 4), "flags": (12, 4), "area_ptr": (16, 8),
            "region_ptr": (24, 8), "offsets": (32, 32), "zcrx_id": (64, 4), "rx_buf_len": (68, 4),
            "event_desc": (72, 8), "__resv": (80, 16),
        },
    ),
    "zcrx_ctrl_flush_rq": Layout(48, {"__resv": (0, 48)}),
    "zcrx_ctrl_export": Layout(48, {"zcrx_fd": (0, 4), "__resv1": (4, 44)}),
    "zcrx_ctrl_arm_event": Layout(48, {"event_type": (0, 4), "__resv": (4, 44)}),
    "zcrx_ctrl": Layout(
        72,
        {
            "zcrx_id": (0, 4), "op": (4, 4), "__resv": (8, 16), "zc_export": (24, 48), "zc_flush": (24, 48),
            "zc_arm_event": (24, 48),
        },
    ),
    "zcrx_event_desc": Layout(
        96,
        {
            "user_data": (0, 8), "type_mask": (8, 4), "flags": (12, 4), "stats_offset": (16, 8),
            "__resv2": (24, 72),
        },
    ),
    "zcrx_stats": Layout(16, {"copy_count": (0, 8), "copy_bytes": (8, 8)}),
    # Filters of requests.
    "io_uring_bpf_filter": Layout(
        64,
        {
            "opcode": (0, 4), "flags": (4, 4), "filter_len": (8, 4), "pdu_size": (12, 1), "resv": (13, 3),
            "filter_ptr": (16, 8), "resv2": (24, 40),
        },
    ),
    "io_uring_bpf": Layout(72, {"cmd_type": (0, 2), "cmd_flags": (2, 2), "resv": (4, 4), "filter": (8, 64)}),
    "sock_filter": Layout(8, {"code": (0, 2), "jt": (2, 1), "jf": (3, 1), "k": (4, 4)}),
    # Structures that operations point to.
    "io_uring_recvmsg_out": Layout(
        16,
        {
            "namelen": (0, 4), "controllen": (4, 4), "payloadlen": (8, 4), "flags": (12, 4),
        },
    ),
    "iovec": Layout(16, {"iov_base": (0, 8), "iov_len": (8, 8)}),
    "msghdr": Layout(
        56,
        {
            "msg_name": (0, 8), "msg_namelen": (8, 4), "msg_iov": (16, 8), "msg_iovlen": (24, 8),
            "msg_control": (32, 8), "msg_controllen": (40, 8), "msg_flags": (48, 4),
        },
    ),
    "open_how": Layout(24, {"flags": (0, 8), "mode": (8, 8), "resolve": (16, 8)}),
    "futex_waitv": Layout(24, {"val": (0, 8), "uaddr": (8, 8), "flags": (16, 4), "__reserved": (20, 4)}),
    "epoll_event": Layout(12, {"events": (0, 4), "data": (4, 8)}),
    "statx_timestamp": Layout(16, {"tv_sec": (0, 8), "tv_nsec": (8, 4), "__reserved": (12, 4)}),
    "statx": Layout(
        256,
        {
            "stx_mask": (0, 4), "stx_blksize": (4, 4), "stx_attributes": (8, 8), "stx_nlink": (16, 4),
            "stx_uid": (20, 4), "stx_gid": (24, 4), "stx_mode": (28, 2), "__spare0": (30, 2),
            "stx_ino": (32, 8), "stx_size": (40, 8), "stx_blocks": (48, 8), "stx_attributes_mask": (56, 8),
            "stx_atime": (64, 16), "stx_btime": (80, 16), "stx_ctime": (96, 16), "stx_mtime": (112, 16),
            "stx_rdev_major": (128, 4), "stx_rdev_minor": (132, 4), "stx_dev_major": (136, 4),
            "stx_dev_minor": (140, 4), "stx_mnt_id": (144, 8), "stx_dio_mem_align": (152, 4),
            "stx_dio_offset_align": (156, 4), "stx_subvol": (160, 8), "stx_atomic_write_unit_min": (168, 4),
            "stx_atomic_write_unit_max": (172, 4), "stx_atomic_write_segments_max": (176, 4),
            "stx_dio_read_offset_align": (180, 4), "stx_atomic_write_unit_max_opt": (184, 4),
            "__spare2": (188, 4), "__spare3": (192, 64),
        },
    ),
}
# fmt: on

# Arguments of io_uring_enter and of timeouts.
KERNEL_TIMESPEC: Final = Struct("=qq")  # tv_sec, tv_nsec
GETEVENTS_ARG: Final = Struct("=QIIQ")  # sigmask, sigmask_sz, min_wait_usec, ts
REG_WAIT: Final = Struct("=qqIIQI28x")  # ts, ts, min_wait_usec, flags, sigmask, sigmask_sz

# Arguments and results of io_uring_register.
RSRC_REGISTER: Final = Struct("=II8xQQ")  # nr, flags, data, tags
RSRC_UPDATE: Final = Struct("=IIQ")  # offset, resv, data
RSRC_UPDATE2: Final = Struct("=I4xQQI4x")  # offset, data, tags, nr
PROBE: Final = Struct("=BB14x")  # last_op, ops_len; then ops_len times PROBE_OP
PROBE_OP: Final = Struct("=BxH4x")  # op, flags
RESTRICTION: Final = Struct("=HB13x")  # opcode, the opcode or flags concerned
SYNC_CANCEL_REG: Final = Struct("=QiIqqB31x")  # addr, fd, flags, timeout, timeout, opcode
FILE_INDEX_RANGE: Final = Struct("=II8x")  # off, len
NAPI: Final = Struct("=IBB2xI4x")  # busy_poll_to, prefer_busy_poll, opcode, op_param
CLOCK_REGISTER: Final = Struct("=I12x")  # clockid
CLONE_BUFFERS: Final = Struct("=IIIII12x")  # src_fd, flags, src_off, dst_off, nr
REGION_DESC: Final = Struct("=QQIIQ32x")  # user_addr, size, flags, id, mmap_offset
MEM_REGION_REG: Final = Struct("=QQ16x")  # region_uptr, flags
BUF: Final = Struct("=QIHH")  # addr, len, bid, resv (the ring's tail in entry 0)
BUF_REG: Final = Struct("=QIHHI20x")  # ring_addr, ring_entries, bgid, flags, min_left
BUF_STATUS: Final = Struct("=II32x")  # buf_group, head
QUERY_HDR: Final = Struct("=QQIIi12x")  # next_entry, query_data, query_op, size, result
QUERY_OPCODE: Final = Struct("=IIQQQQI4x")  # nr_request_opcodes, nr_register_opcodes, features, setup,
#                                             enter and entry flags, nr_query_opcodes
QUERY_ZCRX: Final = Struct("=QQIIII8x")  # register_flags, area_flags, nr_ctrl_opcodes, features, rq_hdr_*
QUERY_ZCRX_EVENT: Final = Struct("=III36x")  # event_flags, stats_size, stats_off_alignment
QUERY_SCQ: Final = Struct("=QQ")  # hdr_size, hdr_alignment
ZCRX_RQE: Final = Struct("=QI4x")  # off, len
ZCRX_CQE: Final = Struct("=Q8x")  # off
ZCRX_AREA_REG: Final = Struct("=QQQII16x")  # addr, len, rq_area_token, flags, dmabuf_fd
ZCRX_IFQ_REG: Final = Struct("=IIIIQQIII20xIIQ16x")  # if_idx, if_rxq, rq_entries, flags, area_ptr,
#                        region_ptr, head, tail, rqes, zcrx_id, rx_buf_len, event_desc
ZCRX_CTRL: Final = Struct("=II16xI44x")  # zcrx_id, op, the first word of the request's own: event_type, or
#                                          the zcrx_fd that ZCRX_CTRL_EXPORT answers
BPF: Final = Struct("=HH4xIIIB3xQ40x")  # cmd_type, cmd_flags; opcode, flags, filter_len, pdu_size, filter_ptr
SOCK_FILTER: Final = Struct("=HBBI")  # code, jt, jf, k
ZCRX_EVENT_DESC: Final = Struct("=QIIQ72x")  # user_data, type_mask, flags, stats_offset
ZCRX_STATS: Final = Struct("=QQ")  # copy_count, copy_bytes

# Structures that operations point to.
ATTR_PI: Final = Struct("=HHIQQ8x")  # flags, app_tag, len, addr, seed
RECVMSG_OUT: Final = Struct("=IIII")  # namelen, controllen, payloadlen, flags
IOVEC: Final = Struct("=QQ")  # iov_base, iov_len
MSGHDR: Final = Struct("=QI4xQQQQI4x")  # name, namelen, iov, iovlen, control, controllen, flags
OPEN_HOW: Final = Struct("=QQQ")  # flags, mode, resolve
FUTEX_WAITV: Final = Struct("=QQI4x")  # val, uaddr, flags
EPOLL_EVENT: Final = Struct("=IQ")  # events, data; packed so on x86-64 only
STATX: Final = Struct(  # fields in STRUCTS order, each timestamp as seconds and nanoseconds
    "=IIQIIIH2xQQQQ" + "qI4x" * 4 + "IIIIQIIQIIIII68x"
)
