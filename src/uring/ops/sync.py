"""Waiting for epoll sets, futexes and child processes.

The waits take no time limit: link a timeout behind them. A cancel request that ends a futex wait or waitid
completes with 1, where others give 0.
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
    """Changes what an epoll set watches (Linux 5.6); completes with 0. See epoll_ctl(2).

    ``op`` is ``EPOLL_CTL_ADD``, ``_MOD`` or ``_DEL``; ``data`` comes back with the events and is the
    descriptor if not given.
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
    epfd: Fd, max_events: int = 64, *, fixed_file: bool = False, sqe_flags: int = 0, personality: int = 0
) -> Op[list[tuple[int, int]]]:
    """Waits for events of an epoll set (Linux 6.15); completes with a list of (data, events).
    See epoll_wait(2)."""
    count = check_int("max_events", max_events, 1, _EVENTS_MAX)
    room = zeroed(count * EPOLL_EVENT.size)

    def decode(res: int) -> list[tuple[int, int]]:
        found = room.view[: res * EPOLL_EVENT.size]
        return [(data, events) for events, data in EPOLL_EVENT.iter_unpack(found)]

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
    """Waits while the 32-bit word at the start of a buffer has this value (Linux 6.7); completes with 0 when
    woken, with ``EAGAIN`` if it has another already. See futex(2), ``FUTEX_WAIT_BITSET``.

    Args:
        word: aligned to 4 bytes; part of a shared mapping to wait for other processes.
        mask: a wake-up whose mask has none of these bits is not for this wait.
        flags: ``FUTEX2_SIZE_U32``, the only size there is, with ``FUTEX2_PRIVATE`` if no other process
            takes part.
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
    """Wakes up to ``n`` waiters of a word (Linux 6.7); completes with how many. See futex(2),
    ``FUTEX_WAKE_BITSET``. The flags are those of the waiters."""
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
    waiters: Sequence[tuple[Any, int]], *, flags: int = _U32, sqe_flags: int = 0, personality: int = 0
) -> Op[int]:
    """Waits on several (word, value) pairs at once (Linux 6.7); completes with the index of one that was
    woken, with ``EAGAIN`` if one has another value already. See futex_waitv(2)."""
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
    """Waits for a child to change state (Linux 6.7); completes with what `os.waitid` returns, None where
    ``WNOHANG`` found nothing. See waitid(2).

    ``P_PIDFD`` takes a pidfd as ``id``. Cancelled, it leaves the child as it was.
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
    """Futex flags, which say how large the word is.

    Raises:
        ValueError: not 32 bits, which is all that the kernel has.
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
