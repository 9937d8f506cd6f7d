"""Waiting for epoll sets, futexes and child processes.

The waits have no time limit: link a timeout behind them. A cancel that ends a futex wait or waitid completes
with 1, other cancels with 0.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, Any

from .. import abi
from ..abi.layouts import EPOLL_EVENT, FUTEX_WAITV
from ..kernel.memory import pin, pin_writable, zeroed
from .base import (
    INT_MAX,
    UINT_MAX,
    USER_DATA_MAX,
    Fd,
    check_fd,
    check_flags,
    check_int,
    check_sequence,
    make,
    renamed,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Buffer

    from ..kernel.op import Op

__all__ = ["epoll_ctl", "epoll_wait", "futex_wait", "futex_waitv", "futex_wake", "waitid"]

_EVENTS_MAX = INT_MAX // EPOLL_EVENT.size
_U32 = int(abi.FUTEX2_SIZE_U32)
_SIZE_MASK = 3
_NUMA = int(abi.FUTEX2_NUMA)
_ANY = abi.FUTEX_BITSET_MATCH_ANY
_WAITERS_MAX = 128
_SIGINFO_SIZE = 128
_SIGINFO = struct.Struct("=i4xi4xiIi")  # si_signo, si_code, si_pid, si_uid, si_status


def epoll_ctl(
    epfd: Fd,
    op: int,
    fd: Fd,
    events: int = 0,
    data: int | None = None,
    *,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Op[int]:
    """Changes what an epoll set watches.

    Args:
        epfd: the set's descriptor, or an object with ``fileno()``.
        op: ``EPOLL_CTL_ADD``, ``EPOLL_CTL_DEL`` or ``EPOLL_CTL_MOD``, 1 to 3.
        fd: the descriptor to watch, or an object with ``fileno()``.
        events: ``EPOLL*`` bits of epoll_ctl(2), 0 to 2**32 - 1.
        data: the number that comes back with the events, 0 to 2**64 - 1; None: the descriptor. One of more
            than 32 bits comes back from ``epoll_wait(…, wide=True)`` alone.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        0.

    Errors:
        - ``EBADF``: ``epfd`` or ``fd`` is not open.
        - ``EEXIST``: ``EPOLL_CTL_ADD`` of a descriptor in the set.
        - ``ENOENT``: ``EPOLL_CTL_MOD`` or ``EPOLL_CTL_DEL`` of one that is not.
        - ``EINVAL``: ``epfd`` is no epoll set, or is ``fd`` itself.
        - ``EPERM``: the file does not support epoll, as regular files do not.

    Cancellation:
        It completes while it is submitted: there is nothing to cancel.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 5.6.

    Source:
        epoll_ctl(2); io_uring_enter(2), ``IORING_OP_EPOLL_CTL``.
    """
    target = check_fd(fd)
    event = zeroed(EPOLL_EVENT.size)
    number = target if data is None else check_int("data", data, 0, USER_DATA_MAX)
    EPOLL_EVENT.pack_into(event.view, 0, check_flags("events", events), number)
    return make(
        "epoll_ctl",
        abi.IORING_OP_EPOLL_CTL,
        check_fd(epfd),
        off=target,
        addr=event.address,
        length=check_int("op", op, 1, 3),
        pins=event,
    ).with_options(sqe_flags, personality)


def epoll_wait(
    epfd: Fd,
    max_events: int = 64,
    *,
    wide: bool = False,
    fixed_file: bool = False,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Op[list[tuple[int, int]]]:
    """Waits for events of an epoll set.

    Linux has no time limit for it: link a `link_timeout` behind it.

    Args:
        epfd: the set's descriptor, or an object with ``fileno()``.
        max_events: how many events at most, from 1 on.
        wide: data has 64 bits, as `epoll_ctl` was given them, not 32.
        fixed_file: ``epfd`` is an index into the registered files.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        A list of (data, events). The kernel keeps 64 bits of data, of which `select.epoll.register` sets only
        the lower 32, to the descriptor. So the upper ones are left out without ``wide``.

    Errors:
        - ``EBADF``: ``epfd`` is not open.
        - ``EINVAL``: ``epfd`` is no epoll set.

    Cancellation:
        `async_cancel` and `link_timeout` end it at once with ``ECANCELED``; no event is lost.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 6.15.

    Source:
        epoll_wait(2); io_uring_prep_epoll_wait(3).
    """
    count = check_int("max_events", max_events, 1, _EVENTS_MAX)
    room = zeroed(count * EPOLL_EVENT.size)

    def decode(res: int) -> list[tuple[int, int]]:
        found = room.view[: res * EPOLL_EVENT.size]
        mask = USER_DATA_MAX if wide else UINT_MAX
        return [(data & mask, events) for events, data in EPOLL_EVENT.iter_unpack(found)]

    return make(
        "epoll_wait",
        abi.IORING_OP_EPOLL_WAIT,
        check_fd(epfd),
        addr=room.address,
        length=count,
        fixed_file=fixed_file,
        pins=room,
        decode=decode,
    ).with_options(sqe_flags, personality)


def futex_wait(
    word: Buffer, value: int, *, mask: int = _ANY, flags: int = _U32, sqe_flags: int = 0, personality: int = 0
) -> Op[int]:
    """Waits while a 32-bit word has a value.

    Args:
        word: a buffer with the word at its start, aligned to 4 bytes (to 8, with a node number behind it,
            under ``FUTEX2_NUMA``). Part of a shared mapping, to wait for another process.
        value: the value, 0 to 2**32 - 1.
        mask: a wake-up with none of these bits is not for this wait, 1 to 2**32 - 1.
        flags: ``FUTEX2_SIZE_U32``, the only size there is, with ``FUTEX2_PRIVATE`` where no other process
            takes part.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        0: it was woken.

    Errors:
        - ``EAGAIN``: the word has another value.

    Cancellation:
        `async_cancel` and `link_timeout` end it at once with ``ECANCELED``, and complete with 1 themselves.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range, or the word is not aligned.

    Since:
        Linux 6.7.

    Source:
        futex(2), ``FUTEX_WAIT_BITSET``; io_uring_prep_futex_wait(3).
    """
    address, held = _word(word, flags)
    return make(
        "futex_wait",
        abi.IORING_OP_FUTEX_WAIT,
        _checked(flags),
        off=check_int("value", value, 0, UINT_MAX),
        addr=address,
        addr3=check_int("mask", mask, 1, UINT_MAX),
        pins=(held, word),
    ).with_options(sqe_flags, personality)


def futex_wake(
    word: Buffer, n: int = 1, *, mask: int = _ANY, flags: int = _U32, sqe_flags: int = 0, personality: int = 0
) -> Op[int]:
    """Wakes waiters of a 32-bit word, those of futex(2) too.

    Args:
        word: a buffer with the word at its start, aligned to 4 bytes (8 with ``FUTEX2_NUMA``).
        n: how many waiters at most, 0 to 2**31 - 1.
        mask: wakes waiters whose mask has one of these bits, 1 to 2**32 - 1.
        flags: those of the waiters, ``FUTEX2_SIZE_U32`` with or without ``FUTEX2_PRIVATE``.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        How many waiters were woken.

    Errors:
        - ``EINVAL``: a waiter of this word waits for a lock with priority inheritance.

    Cancellation:
        It completes while it is submitted: there is nothing to cancel.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range, or the word is not aligned.

    Since:
        Linux 6.7.

    Source:
        futex(2), ``FUTEX_WAKE_BITSET``; io_uring_prep_futex_wake(3).
    """
    address, held = _word(word, flags)
    return make(
        "futex_wake",
        abi.IORING_OP_FUTEX_WAKE,
        _checked(flags),
        off=check_int("n", n, 0, INT_MAX),
        addr=address,
        addr3=check_int("mask", mask, 1, UINT_MAX),
        pins=(held, word),
    ).with_options(sqe_flags, personality)


def futex_waitv(
    waiters: Sequence[tuple[Buffer, int]], *, flags: int = _U32, sqe_flags: int = 0, personality: int = 0
) -> Op[int]:
    """Waits while each of several 32-bit words has its value.

    Args:
        waiters: 1 to 128 pairs (word, value), each as for `futex_wait`.
        flags: ``FUTEX2_SIZE_U32``, with ``FUTEX2_PRIVATE`` where no other process takes part.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        The index of a word that was woken.

    Errors:
        - ``EAGAIN``: a word has another value.

    Cancellation:
        `async_cancel` and `link_timeout` end it at once with ``ECANCELED``, and complete with 1 themselves.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range, or a word is not aligned.

    Since:
        Linux 6.7.

    Source:
        futex(2); io_uring_prep_futex_waitv(3).
    """
    if not 1 <= len(check_sequence("waiters", waiters)) <= _WAITERS_MAX:
        raise ValueError(f"futex_waitv takes 1 to {_WAITERS_MAX} words, not {len(waiters)}")
    array = zeroed(FUTEX_WAITV.size * len(waiters))
    pins: list[Any] = [array]
    for i, waiter in enumerate(waiters):
        word, value = check_sequence("a waiter (word, value)", waiter, 2)
        address, held = _word(word, flags)
        pins.append((held, word))
        check_int("value", value, 0, UINT_MAX)
        FUTEX_WAITV.pack_into(array.view, i * FUTEX_WAITV.size, value, address, _checked(flags))
    return make(
        "futex_waitv", abi.IORING_OP_FUTEX_WAITV, 0, addr=array.address, length=len(waiters), pins=pins
    ).with_options(sqe_flags, personality)


@renamed(id="target")
def waitid(
    idtype: int, target: int, options: int, *, sqe_flags: int = 0, personality: int = 0
) -> Op[os.waitid_result | None]:
    """Waits for a child process to change state.

    Args:
        idtype: ``P_ALL``, ``P_PID``, ``P_PGID`` or ``P_PIDFD``, 0 to 3.
        target: the process, process group or pidfd, 0 to 2**31 - 1.
        options: ``WEXITED``, ``WSTOPPED``, ``WCONTINUED``, with ``WNOHANG`` and ``WNOWAIT``.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        An `os.waitid_result`; None where ``WNOHANG`` found no change.

    Errors:
        - ``ECHILD``: there is no such child.
        - ``EBADF``: ``target`` is no pidfd, with ``P_PIDFD``.
        - ``EINVAL``: ``options`` has none of the three states, or an unknown bit.

    Cancellation:
        `async_cancel` and `link_timeout` end it at once with ``ECANCELED``, and complete with 1 themselves.
        The child stays as it was.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 6.7.

    Source:
        waitid(2); io_uring_prep_waitid(3).
    """
    room = zeroed(_SIGINFO_SIZE)

    def decode(_: int) -> os.waitid_result | None:
        signo, code, pid, uid, status = _SIGINFO.unpack_from(room.view)
        return os.waitid_result((pid, uid, signo, status, code)) if pid else None

    wanted = check_flags("options", options)
    return make(
        "waitid",
        abi.IORING_OP_WAITID,
        check_int("target", target, 0, INT_MAX),
        off=room.address,
        length=check_int("idtype", idtype, 0, 3),
        file_index=wanted if wanted <= INT_MAX else wanted - (1 << 32),
        pins=room,
        decode=decode,
    ).with_options(sqe_flags, personality)


def _checked(flags: Any) -> int:
    """Futex flags, which have the size of the word.

    Raises:
        ValueError: not 32 bits, the only size that the kernel has.
    """
    if check_int("flags", flags, 0, INT_MAX) & _SIZE_MASK != _U32:
        raise ValueError(f"a futex word is 32 bits: flags have FUTEX2_SIZE_U32, not {flags:#x}")
    return int(flags)


def _word(word: Buffer, flags: int) -> tuple[int, Any]:
    # With FUTEX2_NUMA a node number follows the word, and the kernel may write it.
    numa = bool(_checked(flags) & _NUMA)
    address, length, held = (pin_writable if numa else pin)(word)
    size = 8 if numa else 4
    if length < size or address % size:
        raise ValueError(f"a futex word here is {size} aligned bytes, not {length} bytes at {address:#x}")
    return address, held
