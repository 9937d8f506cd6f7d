"""Numbers of operations that wait: poll, epoll, futex, waitid, clocks.

They are not taken from the select module, so that this package can be imported on any platform.
"""

from enum import IntEnum, IntFlag
from typing import Final

__all__ = [
    "CLOCK_BOOTTIME",
    "CLOCK_MONOTONIC",
    "CLOCK_REALTIME",
    "EPOLLERR",
    "EPOLLET",
    "EPOLLEXCLUSIVE",
    "EPOLLHUP",
    "EPOLLIN",
    "EPOLLONESHOT",
    "EPOLLOUT",
    "EPOLLPRI",
    "EPOLLRDHUP",
    "EPOLLWAKEUP",
    "EPOLL_CTL_ADD",
    "EPOLL_CTL_DEL",
    "EPOLL_CTL_MOD",
    "FUTEX2_MPOL",
    "FUTEX2_NUMA",
    "FUTEX2_PRIVATE",
    "FUTEX2_SIZE_U8",
    "FUTEX2_SIZE_U16",
    "FUTEX2_SIZE_U32",
    "FUTEX2_SIZE_U64",
    "FUTEX_BITSET_MATCH_ANY",
    "POLLERR",
    "POLLHUP",
    "POLLIN",
    "POLLNVAL",
    "POLLOUT",
    "POLLPRI",
    "POLLRDHUP",
    "P_ALL",
    "P_PGID",
    "P_PID",
    "P_PIDFD",
    "WCONTINUED",
    "WEXITED",
    "WNOHANG",
    "WNOWAIT",
    "WSTOPPED",
    "WUNTRACED",
    "Clock",
    "EpollCtl",
    "EpollEvents",
    "Futex2",
    "Futex2Size",
    "IdType",
    "PollEvents",
    "Wait",
]


class PollEvents(IntFlag):
    """POLL_ADD: poll32_events, and the result."""

    POLLIN = 0x1
    POLLPRI = 0x2
    POLLOUT = 0x4
    POLLERR = 0x8
    POLLHUP = 0x10
    POLLNVAL = 0x20
    POLLRDHUP = 0x2000


POLLIN: Final = PollEvents.POLLIN
POLLPRI: Final = PollEvents.POLLPRI
POLLOUT: Final = PollEvents.POLLOUT
POLLERR: Final = PollEvents.POLLERR
POLLHUP: Final = PollEvents.POLLHUP
POLLNVAL: Final = PollEvents.POLLNVAL
POLLRDHUP: Final = PollEvents.POLLRDHUP


class EpollCtl(IntEnum):
    """EPOLL_CTL: len."""

    EPOLL_CTL_ADD = 1
    EPOLL_CTL_DEL = 2
    EPOLL_CTL_MOD = 3


EPOLL_CTL_ADD: Final = EpollCtl.EPOLL_CTL_ADD
EPOLL_CTL_DEL: Final = EpollCtl.EPOLL_CTL_DEL
EPOLL_CTL_MOD: Final = EpollCtl.EPOLL_CTL_MOD


class EpollEvents(IntFlag):
    """epoll_event.events."""

    EPOLLIN = 0x1
    EPOLLPRI = 0x2
    EPOLLOUT = 0x4
    EPOLLERR = 0x8
    EPOLLHUP = 0x10
    EPOLLRDHUP = 0x2000
    EPOLLEXCLUSIVE = 1 << 28
    EPOLLWAKEUP = 1 << 29
    EPOLLONESHOT = 1 << 30
    EPOLLET = 1 << 31


EPOLLIN: Final = EpollEvents.EPOLLIN
EPOLLPRI: Final = EpollEvents.EPOLLPRI
EPOLLOUT: Final = EpollEvents.EPOLLOUT
EPOLLERR: Final = EpollEvents.EPOLLERR
EPOLLHUP: Final = EpollEvents.EPOLLHUP
EPOLLRDHUP: Final = EpollEvents.EPOLLRDHUP
EPOLLEXCLUSIVE: Final = EpollEvents.EPOLLEXCLUSIVE
EPOLLWAKEUP: Final = EpollEvents.EPOLLWAKEUP
EPOLLONESHOT: Final = EpollEvents.EPOLLONESHOT
EPOLLET: Final = EpollEvents.EPOLLET


class Futex2Size(IntEnum):
    """FUTEX_WAIT, FUTEX_WAKE: fd; futex_waitv.flags. io_uring takes U32 only."""

    FUTEX2_SIZE_U8 = 0
    FUTEX2_SIZE_U16 = 1
    FUTEX2_SIZE_U32 = 2
    FUTEX2_SIZE_U64 = 3


FUTEX2_SIZE_U8: Final = Futex2Size.FUTEX2_SIZE_U8
FUTEX2_SIZE_U16: Final = Futex2Size.FUTEX2_SIZE_U16
FUTEX2_SIZE_U32: Final = Futex2Size.FUTEX2_SIZE_U32
FUTEX2_SIZE_U64: Final = Futex2Size.FUTEX2_SIZE_U64


class Futex2(IntFlag):
    """Beside the size."""

    FUTEX2_NUMA = 0x4
    FUTEX2_MPOL = 0x8
    FUTEX2_PRIVATE = 128


FUTEX2_NUMA: Final = Futex2.FUTEX2_NUMA
FUTEX2_MPOL: Final = Futex2.FUTEX2_MPOL
FUTEX2_PRIVATE: Final = Futex2.FUTEX2_PRIVATE


class IdType(IntEnum):
    """WAITID: len."""

    P_ALL = 0
    P_PID = 1
    P_PGID = 2
    P_PIDFD = 3


P_ALL: Final = IdType.P_ALL
P_PID: Final = IdType.P_PID
P_PGID: Final = IdType.P_PGID
P_PIDFD: Final = IdType.P_PIDFD


class Wait(IntFlag):
    """WAITID: file_index."""

    WNOHANG = 0x1
    WSTOPPED = 0x2
    WUNTRACED = 0x2
    WEXITED = 0x4
    WCONTINUED = 0x8
    WNOWAIT = 0x1000000


WNOHANG: Final = Wait.WNOHANG
WSTOPPED: Final = Wait.WSTOPPED
WUNTRACED: Final = Wait.WUNTRACED
WEXITED: Final = Wait.WEXITED
WCONTINUED: Final = Wait.WCONTINUED
WNOWAIT: Final = Wait.WNOWAIT


class Clock(IntEnum):
    """io_uring_clock_register.clockid."""

    CLOCK_REALTIME = 0
    CLOCK_MONOTONIC = 1
    CLOCK_BOOTTIME = 7


CLOCK_REALTIME: Final = Clock.CLOCK_REALTIME
CLOCK_MONOTONIC: Final = Clock.CLOCK_MONOTONIC
CLOCK_BOOTTIME: Final = Clock.CLOCK_BOOTTIME


FUTEX_BITSET_MATCH_ANY: Final = 0xFFFFFFFF
