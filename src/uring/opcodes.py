"""The one table of io_uring opcodes: operands, results, and the end of each.

The support matrix in the docs and the parametrised tests read it; it generates no behaviour. Invariants, each
tested: one row for each member of abi.Op, in the order of the numbers, without gaps; pointer fields are
fields of io_uring_sqe.

A completion's result below zero is always a negated errno; ResultKind says what the others mean.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final

from .abi import Op

__all__ = ["OPCODES", "Cancel", "Opcode", "ResultKind", "by_name", "by_number"]


class ResultKind(Enum):
    """The meaning of a result of zero or more."""

    NONE = "none"
    """Always 0."""
    COUNT = "count"
    """How many: bytes, entries, waiters, requests."""
    FD = "fd"
    """A new descriptor, or slot of the file table, that the receiver owns: unwanted, it must be closed."""
    FD_PAIR = "fd pair"
    """0; two new descriptors or slots stand in the memory that was passed, and must be closed if unwanted."""
    MASK = "mask"
    """Poll events."""
    INDEX = "index"
    """Which one of those passed."""
    VALUE = "value"
    """As the request's own sub-command defines it."""
    EXPIRY = "expiry"
    """0 or more when the timer was ended early; expiry itself is reported as -ETIME."""


class Cancel(Enum):
    """How a pending request ends when it is cancelled. Its own last completion comes in every case."""

    INLINE = "inline"
    """Finished when it is submitted: there is nothing to cancel."""
    PROMPT = "prompt"
    """Parked without a thread: -ECANCELED at once."""
    FILE = "file"
    """PROMPT on what can be polled (sockets, pipes, terminals); block I/O cannot be stopped."""
    WORKER = "worker"
    """Runs in a kernel worker: -ECANCELED while queued there; once running it is at most interrupted."""
    LINKED = "linked"
    """Ends with the request before it and cannot be cancelled by itself."""


@dataclass(frozen=True, slots=True)
class Opcode:
    """One operation of io_uring.

    `since` is the first kernel that has it. `pointers` are the fields of the submission entry that hold, or
    in some uses hold, addresses in the caller's memory. `multishot` says that one request may complete many
    times; `buffer_select` that the kernel may pick a provided buffer; `fixed_file` that IOSQE_FIXED_FILE
    makes `fd` an index into the registered files.
    """

    name: str
    number: Op
    since: str
    pointers: tuple[str, ...]
    result: ResultKind
    cancel: Cancel
    multishot: bool = False
    buffer_select: bool = False
    fixed_file: bool = False
    note: str = ""


def by_number(number: int) -> Opcode:
    """The row of an opcode. Raises LookupError if there is none of that number."""
    if 0 <= number < len(OPCODES):
        return OPCODES[number]
    raise LookupError(f"no io_uring opcode has the number {number}")


def by_name(name: str) -> Opcode:
    """The row of an opcode by its name, in any case, with or without IORING_OP_. Raises LookupError."""
    try:
        return _BY_NAME[name.upper().removeprefix(_PREFIX)]
    except KeyError:
        raise LookupError(f"no io_uring opcode is called {name!r}") from None


_PREFIX = "IORING_OP_"


def _row(
    number: Op, since: str, pointers: str, result: ResultKind, cancel: Cancel, uses: str = "", note: str = ""
) -> Opcode:
    """`uses` has a letter for each ability: m(ultishot), b(uffer select), f(ixed file)."""
    return Opcode(
        name=number.name.removeprefix(_PREFIX),
        number=number,
        since=since,
        pointers=tuple(pointers.split()),
        result=result,
        cancel=cancel,
        multishot="m" in uses,
        buffer_select="b" in uses,
        fixed_file="f" in uses,
        note=note,
    )


_R = ResultKind
_C = Cancel

# fmt: off
OPCODES: Final[tuple[Opcode, ...]] = (
    _row(Op.IORING_OP_NOP, "5.1", "", _R.VALUE, _C.INLINE, "", "the injected result, else 0"),
    _row(Op.IORING_OP_READV, "5.1", "addr", _R.COUNT, _C.FILE, "bf", "a buffer is picked for one iovec only"),
    _row(Op.IORING_OP_WRITEV, "5.1", "addr", _R.COUNT, _C.FILE, "f", "a broken pipe raises SIGPIPE"),
    _row(Op.IORING_OP_FSYNC, "5.1", "", _R.NONE, _C.WORKER, "f"),
    _row(Op.IORING_OP_READ_FIXED, "5.1", "addr", _R.COUNT, _C.FILE, "f", "addr is in the registered buffer"),
    _row(Op.IORING_OP_WRITE_FIXED, "5.1", "addr", _R.COUNT, _C.FILE, "f", "addr is in the registered buffer"),
    _row(Op.IORING_OP_POLL_ADD, "5.1", "", _R.MASK, _C.PROMPT, "mf"),
    _row(Op.IORING_OP_POLL_REMOVE, "5.1", "", _R.NONE, _C.INLINE, "", "finds POLL_ADD only"),
    _row(Op.IORING_OP_SYNC_FILE_RANGE, "5.2", "", _R.NONE, _C.WORKER, "f"),
    _row(Op.IORING_OP_SENDMSG, "5.3", "addr", _R.COUNT, _C.PROMPT, "f"),
    _row(Op.IORING_OP_RECVMSG, "5.3", "addr", _R.COUNT, _C.PROMPT, "mbf",
         "multishot: each buffer starts with io_uring_recvmsg_out"),
    _row(Op.IORING_OP_TIMEOUT, "5.4", "addr", _R.EXPIRY, _C.PROMPT, "m"),
    _row(Op.IORING_OP_TIMEOUT_REMOVE, "5.5", "off", _R.NONE, _C.INLINE, "", "off: new time of an update"),
    _row(Op.IORING_OP_ACCEPT, "5.5", "addr off", _R.FD, _C.PROMPT, "mf"),
    _row(Op.IORING_OP_ASYNC_CANCEL, "5.5", "", _R.COUNT, _C.INLINE, "",
         "any result of 0 or more is success; FD_FIXED stands for a registered file"),
    _row(Op.IORING_OP_LINK_TIMEOUT, "5.5", "addr", _R.EXPIRY, _C.LINKED, "",
         "armed after the first attempt of the request before it; 1 on futex waits and WAITID"),
    _row(Op.IORING_OP_CONNECT, "5.5", "addr", _R.NONE, _C.PROMPT, "f",
         "a Unix socket that blocks on a full backlog waits in a worker"),
    _row(Op.IORING_OP_FALLOCATE, "5.6", "", _R.NONE, _C.WORKER, "f"),
    _row(Op.IORING_OP_OPENAT, "5.6", "addr", _R.FD, _C.WORKER, "", "inline when the path is cached"),
    _row(Op.IORING_OP_CLOSE, "5.6", "", _R.NONE, _C.INLINE, "", "file_index: slot + 1 of a registered file"),
    _row(Op.IORING_OP_FILES_UPDATE, "5.6", "addr", _R.COUNT, _C.INLINE),
    _row(Op.IORING_OP_STATX, "5.6", "addr off", _R.NONE, _C.WORKER),
    _row(Op.IORING_OP_READ, "5.6", "addr", _R.COUNT, _C.FILE, "bf", "0 is the end of the file"),
    _row(Op.IORING_OP_WRITE, "5.6", "addr", _R.COUNT, _C.FILE, "f", "a broken pipe raises SIGPIPE"),
    _row(Op.IORING_OP_FADVISE, "5.6", "", _R.NONE, _C.WORKER, "f"),
    _row(Op.IORING_OP_MADVISE, "5.6", "addr", _R.NONE, _C.WORKER),
    _row(Op.IORING_OP_SEND, "5.6", "addr off", _R.COUNT, _C.PROMPT, "bf", "off: destination address"),
    _row(Op.IORING_OP_RECV, "5.6", "addr", _R.COUNT, _C.PROMPT, "mbf", "0 is the end of the stream"),
    _row(Op.IORING_OP_OPENAT2, "5.6", "addr off", _R.FD, _C.WORKER, "", "inline when the path is cached"),
    _row(Op.IORING_OP_EPOLL_CTL, "5.6", "addr", _R.NONE, _C.INLINE),
    _row(Op.IORING_OP_SPLICE, "5.7", "", _R.COUNT, _C.WORKER, "f",
         "SPLICE_F_FD_IN_FIXED does the same for splice_fd_in; -ERESTARTSYS when cancelled"),
    _row(Op.IORING_OP_PROVIDE_BUFFERS, "5.7", "addr", _R.NONE, _C.INLINE),
    _row(Op.IORING_OP_REMOVE_BUFFERS, "5.7", "", _R.COUNT, _C.INLINE),
    _row(Op.IORING_OP_TEE, "5.8", "", _R.COUNT, _C.WORKER, "f", "as SPLICE"),
    _row(Op.IORING_OP_SHUTDOWN, "5.11", "", _R.NONE, _C.WORKER, "f"),
    _row(Op.IORING_OP_RENAMEAT, "5.11", "addr off", _R.NONE, _C.WORKER),
    _row(Op.IORING_OP_UNLINKAT, "5.11", "addr", _R.NONE, _C.WORKER),
    _row(Op.IORING_OP_MKDIRAT, "5.15", "addr", _R.NONE, _C.WORKER),
    _row(Op.IORING_OP_SYMLINKAT, "5.15", "addr off", _R.NONE, _C.WORKER),
    _row(Op.IORING_OP_LINKAT, "5.15", "addr off", _R.NONE, _C.WORKER),
    _row(Op.IORING_OP_MSG_RING, "5.18", "", _R.VALUE, _C.INLINE, "f", "0, or the slot SEND_FD was given"),
    _row(Op.IORING_OP_FSETXATTR, "5.19", "addr off", _R.NONE, _C.WORKER, "f"),
    _row(Op.IORING_OP_SETXATTR, "5.19", "addr off addr3", _R.NONE, _C.WORKER),
    _row(Op.IORING_OP_FGETXATTR, "5.19", "addr off", _R.COUNT, _C.WORKER, "f"),
    _row(Op.IORING_OP_GETXATTR, "5.19", "addr off addr3", _R.COUNT, _C.WORKER),
    _row(Op.IORING_OP_SOCKET, "5.19", "", _R.FD, _C.INLINE),
    _row(Op.IORING_OP_URING_CMD, "5.19", "addr optval", _R.VALUE, _C.INLINE, "mbf",
         "which fields point to memory depends on the command; TX_TIMESTAMP is multishot and waits"),
    _row(Op.IORING_OP_SEND_ZC, "6.0", "addr off", _R.COUNT, _C.PROMPT, "f",
         "F_MORE announces a second completion, F_NOTIF, that frees the memory"),
    _row(Op.IORING_OP_SENDMSG_ZC, "6.1", "addr", _R.COUNT, _C.PROMPT, "f", "as SEND_ZC"),
    _row(Op.IORING_OP_READ_MULTISHOT, "6.7", "", _R.COUNT, _C.PROMPT, "mbf", "only what can be polled"),
    _row(Op.IORING_OP_WAITID, "6.7", "off", _R.NONE, _C.PROMPT, "", "its cancel request reports 1"),
    _row(Op.IORING_OP_FUTEX_WAIT, "6.7", "addr", _R.NONE, _C.PROMPT, "", "its cancel request reports 1"),
    _row(Op.IORING_OP_FUTEX_WAKE, "6.7", "addr", _R.COUNT, _C.INLINE),
    _row(Op.IORING_OP_FUTEX_WAITV, "6.7", "addr", _R.INDEX, _C.PROMPT, "", "its cancel request reports 1"),
    _row(Op.IORING_OP_FIXED_FD_INSTALL, "6.8", "", _R.FD, _C.INLINE, "f", "IOSQE_FIXED_FILE is required"),
    _row(Op.IORING_OP_FTRUNCATE, "6.9", "", _R.NONE, _C.WORKER, "f"),
    _row(Op.IORING_OP_BIND, "6.11", "addr", _R.NONE, _C.INLINE, "f"),
    _row(Op.IORING_OP_LISTEN, "6.11", "", _R.NONE, _C.INLINE, "f"),
    _row(Op.IORING_OP_RECV_ZC, "6.15", "", _R.COUNT, _C.PROMPT, "mf", "32-byte completions; multishot only"),
    _row(Op.IORING_OP_EPOLL_WAIT, "6.15", "addr", _R.COUNT, _C.PROMPT, "f", "has no timeout of its own"),
    _row(Op.IORING_OP_READV_FIXED, "6.15", "addr", _R.COUNT, _C.FILE, "f", "iovecs are in that buffer"),
    _row(Op.IORING_OP_WRITEV_FIXED, "6.15", "addr", _R.COUNT, _C.FILE, "f", "iovecs are in that buffer"),
    _row(Op.IORING_OP_PIPE, "6.16", "addr", _R.FD_PAIR, _C.INLINE),
    _row(Op.IORING_OP_NOP128, "6.19", "", _R.VALUE, _C.INLINE, "", "128-byte entry"),
    _row(Op.IORING_OP_URING_CMD128, "6.19", "addr optval", _R.VALUE, _C.INLINE, "mbf",
         "URING_CMD in a 128-byte entry"),
)
# fmt: on

_BY_NAME: Final = {row.name: row for row in OPCODES}
