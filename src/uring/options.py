"""The options of a ring, and helpers that compute them for a memory budget.

Arithmetic of a budget (16 MiB to 128 GiB, clamped):

    registered buffers   a quarter of it, 8 MiB at least
    ring overhead        100 bytes an entry: 64 + 4 for the submission, 2 * 16 for the completions
    buffer groups        the rest: as many of the twelve tiers as fit once, as often as they fit

A tier of a group configuration takes twice the memory of the tier before it, the smallest 1 MiB, so that
the first n tiers take (2**n - 1) MiB.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Final, Protocol, TypedDict

from . import abi
from .bounds import check_int

__all__ = [
    "BUFFER_SIZES",
    "LARGE_LOCKED_BUFFER_MEM",
    "BufferGroupsConfig",
    "OptionFields",
    "Options",
    "buffer_config_for_budget",
    "options_for_budget",
    "options_for_system",
]

_MiB = abi.MIB
_GiB = abi.GIB

BUDGET_LEAST: Final = 16 * _MiB
BUDGET_MOST: Final = 128 * _GiB
LOCKED_LEAST: Final = 8 * _MiB
LARGE_LOCKED_BUFFER_MEM: Final = 128 * _MiB
"""A generous amount of registered memory; unprivileged processes need RLIMIT_MEMLOCK raised for it."""

REGISTER_BUFFER_SIZE: Final = 4096
REGISTER_BUFFERS_MOST: Final = 16384

ENTRIES_MOST: Final = 32768
CQ_ENTRIES_MOST: Final = 65536
ENTRY_OVERHEAD: Final = 64 + 4 + 2 * 16
"""Bytes of a ring for each submission entry."""

BUFFER_SIZES: Final[tuple[int, ...]] = tuple(32 << 2 * tier for tier in range(12))
"""The sizes of the twelve tiers: 32 bytes to 128 MiB, each four times the one before."""

_DEFAULT_NUMS = tuple(1 << 15 - tier for tier in range(12))
_TIERS = (
    "pico",
    "nano",
    "micro",
    "small",
    "medium",
    "big",
    "large",
    "great",
    "huge",
    "vast",
    "giant",
    "titan",
)


class HasFileno(Protocol):
    """A ring, or anything else that has a descriptor."""

    def fileno(self) -> int: ...


@dataclass(frozen=True, slots=True)
class BufferGroupsConfig:
    """How many buffers each tier has.

    Attributes:
        pico_num: buffers of 32 bytes, 0 to 32768; 0 leaves the tier out.
        nano_num: the same, of 128 bytes.
        micro_num: the same, of 512 bytes.
        small_num: the same, of 2 KiB.
        medium_num: the same, of 8 KiB.
        big_num: the same, of 32 KiB.
        large_num: the same, of 128 KiB.
        great_num: the same, of 512 KiB.
        huge_num: the same, of 2 MiB.
        vast_num: the same, of 8 MiB.
        giant_num: the same, of 32 MiB.
        titan_num: the same, of 128 MiB.

    Raises:
        TypeError, ValueError: a count that is not an int of 0 to 32768.
    """

    pico_num: int = 0
    nano_num: int = 0
    micro_num: int = 0
    small_num: int = 0
    medium_num: int = 0
    big_num: int = 0
    large_num: int = 0
    great_num: int = 0
    huge_num: int = 0
    vast_num: int = 0
    giant_num: int = 0
    titan_num: int = 0

    def __post_init__(self) -> None:
        for each in fields(self):
            check_int(each.name, getattr(self, each.name), 0, ENTRIES_MOST)

    @classmethod
    def first(cls, tiers: int) -> BufferGroupsConfig:
        """The smallest tiers with their default counts, (2**tiers - 1) MiB in all.

        Args:
            tiers: how many tiers, 0 to 12.

        Returns:
            The configuration.
        """
        check_int("tiers", tiers, 0, len(_TIERS))
        return cls(*_DEFAULT_NUMS[:tiers])

    @classmethod
    def default(cls) -> BufferGroupsConfig:
        """Seven tiers, 32 bytes to 128 KiB: 127 MiB."""
        return cls.first(7)

    @classmethod
    def minimal(cls) -> BufferGroupsConfig:
        """Five tiers, 32 bytes to 8 KiB: 31 MiB."""
        return cls.first(5)

    @classmethod
    def full(cls) -> BufferGroupsConfig:
        """All twelve tiers, to 128 MiB: 4095 MiB."""
        return cls.first(12)

    @property
    def tiers(self) -> list[tuple[int, int]]:
        """Size and count of every tier that has buffers."""
        counts = (getattr(self, f"{name}_num") for name in _TIERS)
        return [(size, count) for size, count in zip(BUFFER_SIZES, counts, strict=True) if count]

    @property
    def total(self) -> int:
        """Bytes of all buffers at scale 1."""
        return sum(size * count for size, count in self.tiers)


@dataclass(frozen=True, slots=True)
class Options:
    """The options of a `uring.Ring`.

    Attributes:
        entries: submission queue size, 1 to 32768, rounded up to a power of two.
        cq_entries: completion queue size, up to 65536; 0: twice the submission queue.
        locked_buffer_mem: bytes of registered buffers made at the start, in buffers of 4 KiB or, past 16384
            of them, of the next power of two; 0: none. Pinned memory: see RLIMIT_MEMLOCK.
        read_buffer_size: bytes of each buffer of a provided buffer ring made at the start.
        read_buffer_num: buffers of that ring; 0: there is none.
        read_buffer_gid_offset: its group, and the first group of the tiers.
        write_buffer_size: bytes of each piece of a pool of memory for sends; see ``Ring.write_buffers``.
        write_buffer_num: pieces of that pool; 0: there is none.
        multi_size_buffer: how often the tiers of `buffer_groups` are made; 0: not at all. Groups are numbered
            from read_buffer_gid_offset on.
        buffer_groups: the tiers.
        context_capacity: slots for indirect and for extended contexts; 0: as many as completions fit.
        multi_issuers: any thread may submit and wait; the ring locks. Else only the thread that started it.
        notify_succeed: ``IOSQE_CQE_SKIP_SUCCESS`` is cleared in everything that is submitted.
        indirect_submission_queue: the kernel's index array between queue and entries.
        sqe128: 128-byte entries, for NOP128 and URING_CMD128.
        cqe32: 32-byte completions.
        cqe_mixed: completions of 16 bytes, and of 32 where an operation asks for it (Linux 6.18).
        iopoll: completions of O_DIRECT files by polling the device.
        hybrid_polling: the polling sleeps first; it needs ``iopoll`` (Linux 6.13).
        sqpoll: a kernel thread submits.
        sq_thread_idle: milliseconds until that thread sleeps.
        sq_thread_cpu: the processor that it runs on.
        no_mmap: the queues lie in memory of this process (Linux 6.5).
        registered_fd: no descriptor at all, only an index into the thread's registered rings; it needs
            ``no_mmap`` (Linux 6.5).
        attach_wq: a ring, or its descriptor, whose kernel workers are shared.
        submit_all: a request that the kernel refuses does not stop those queued behind it.
        clamp: sizes past the limits become the limits.
        drain_timeout: seconds that `stop` waits for what is in flight.

    Raises:
        TypeError, ValueError: a value out of range, or options that exclude each other.
    """

    entries: int = int(abi.ENTRIES_SMALL)
    cq_entries: int = 0
    locked_buffer_mem: int = 0
    read_buffer_size: int = 2048
    read_buffer_num: int = 0
    read_buffer_gid_offset: int = 0
    write_buffer_size: int = 2048
    write_buffer_num: int = 0
    multi_size_buffer: int = 0
    buffer_groups: BufferGroupsConfig = field(default_factory=BufferGroupsConfig.default)
    context_capacity: int = 0
    multi_issuers: bool = False
    notify_succeed: bool = False
    indirect_submission_queue: bool = False
    sqe128: bool = False
    cqe32: bool = False
    cqe_mixed: bool = False
    iopoll: bool = False
    hybrid_polling: bool = False
    sqpoll: bool = False
    sq_thread_idle: int = 0
    sq_thread_cpu: int | None = None
    no_mmap: bool = False
    registered_fd: bool = False
    attach_wq: int | HasFileno | None = None
    submit_all: bool = True
    clamp: bool = False
    drain_timeout: float = 5.0

    def __post_init__(self) -> None:
        most = (1 << 31) - 1
        check_int("entries", self.entries, 1, most if self.clamp else ENTRIES_MOST)
        check_int("cq_entries", self.cq_entries, 0, most if self.clamp else CQ_ENTRIES_MOST)
        check_int("locked_buffer_mem", self.locked_buffer_mem, 0, 1 << 44)
        check_int("read_buffer_size", self.read_buffer_size, 1, most)
        check_int("read_buffer_num", self.read_buffer_num, 0, ENTRIES_MOST)
        check_int("read_buffer_gid_offset", self.read_buffer_gid_offset, 0, 0xFFFF)
        check_int("write_buffer_size", self.write_buffer_size, 1, most)
        check_int("write_buffer_num", self.write_buffer_num, 0, 1 << 20)
        check_int("multi_size_buffer", self.multi_size_buffer, 0, 0xFFFF // len(_TIERS))
        check_int("context_capacity", self.context_capacity, 0, 1 << 24)
        check_int("sq_thread_idle", self.sq_thread_idle, 0, (1 << 32) - 1)
        if self.sq_thread_cpu is not None:
            check_int("sq_thread_cpu", self.sq_thread_cpu, 0, most)
        if isinstance(self.drain_timeout, bool) or not isinstance(self.drain_timeout, (int, float)):
            raise TypeError(f"drain_timeout is a number, not {type(self.drain_timeout).__name__}")
        if not 0 <= self.drain_timeout < 1 << 31:
            raise ValueError(f"drain_timeout is 0 or more seconds, not {self.drain_timeout}")
        if self.cq_entries and self.cq_entries < self.entries and not self.clamp:
            raise ValueError(f"cq_entries is at least entries ({self.entries}), not {self.cq_entries}")
        if self.cqe32 and self.cqe_mixed:
            raise ValueError("give either cqe32 or cqe_mixed")
        if self.hybrid_polling and not self.iopoll:
            raise ValueError("hybrid_polling needs iopoll")
        if self.registered_fd and not self.no_mmap:
            raise ValueError("registered_fd needs no_mmap: without a descriptor nothing can be mapped")
        if (self.sq_thread_cpu is not None or self.sq_thread_idle) and not self.sqpoll:
            raise ValueError("sq_thread_cpu and sq_thread_idle need sqpoll")
        if self.registered_fd and self.multi_issuers:
            raise ValueError("registered_fd is an index that one thread has: it excludes multi_issuers")
        if self.read_buffer_num and self.multi_size_buffer:
            raise ValueError("give either read_buffer_num or multi_size_buffer: their groups would collide")

    @property
    def setup_flags(self) -> int:
        """The ``IORING_SETUP_*`` bits of a ring with these options; it starts disabled."""
        flags = int(abi.IORING_SETUP_R_DISABLED)
        if self.sqpoll:
            flags |= int(abi.IORING_SETUP_SQPOLL)
            if self.sq_thread_cpu is not None:
                flags |= int(abi.IORING_SETUP_SQ_AFF)
        elif self.multi_issuers:
            flags |= int(abi.IORING_SETUP_COOP_TASKRUN | abi.IORING_SETUP_TASKRUN_FLAG)
        else:
            flags |= int(abi.IORING_SETUP_DEFER_TASKRUN | abi.IORING_SETUP_TASKRUN_FLAG)
        if not self.multi_issuers:
            flags |= int(abi.IORING_SETUP_SINGLE_ISSUER)
        for wanted, flag in (
            (self.cq_entries, abi.IORING_SETUP_CQSIZE),
            (self.clamp, abi.IORING_SETUP_CLAMP),
            (self.attach_wq is not None, abi.IORING_SETUP_ATTACH_WQ),
            (self.submit_all, abi.IORING_SETUP_SUBMIT_ALL),
            (self.sqe128, abi.IORING_SETUP_SQE128),
            (self.cqe32, abi.IORING_SETUP_CQE32),
            (self.cqe_mixed, abi.IORING_SETUP_CQE_MIXED),
            (self.no_mmap, abi.IORING_SETUP_NO_MMAP),
            (self.registered_fd, abi.IORING_SETUP_REGISTERED_FD_ONLY),
            (not self.indirect_submission_queue, abi.IORING_SETUP_NO_SQARRAY),
            (self.iopoll, abi.IORING_SETUP_IOPOLL),
            (self.hybrid_polling, abi.IORING_SETUP_HYBRID_IOPOLL),
        ):
            if wanted:
                flags |= int(flag)
        return flags


class OptionFields(TypedDict, total=False):
    """The fields of `Options`, as keywords of `uring.Ring`: see there."""

    entries: int
    cq_entries: int
    locked_buffer_mem: int
    read_buffer_size: int
    read_buffer_num: int
    read_buffer_gid_offset: int
    write_buffer_size: int
    write_buffer_num: int
    multi_size_buffer: int
    buffer_groups: BufferGroupsConfig
    context_capacity: int
    multi_issuers: bool
    notify_succeed: bool
    indirect_submission_queue: bool
    sqe128: bool
    cqe32: bool
    cqe_mixed: bool
    iopoll: bool
    hybrid_polling: bool
    sqpoll: bool
    sq_thread_idle: int
    sq_thread_cpu: int | None
    no_mmap: bool
    registered_fd: bool
    attach_wq: int | HasFileno | None
    submit_all: bool
    clamp: bool
    drain_timeout: float


def options_for_budget(budget: int) -> Options:
    """Options of a ring that takes about so much memory.

    Args:
        budget: bytes, clamped to 16 MiB to 128 GiB.

    Returns:
        Options whose registered buffers, buffer groups and queues fit the budget.

    Raises:
        TypeError, ValueError: ``budget`` is no int of 62 bits.
    """
    locked, entries = _locked_and_entries(_clamped(budget))
    config, scale = buffer_config_for_budget(budget)
    return Options(entries=entries, locked_buffer_mem=locked, multi_size_buffer=scale, buffer_groups=config)


def options_for_system(system_memory: int) -> Options:
    """Options of a ring for a machine: a quarter of its memory is the budget of `options_for_budget`.

    Args:
        system_memory: bytes, 0 to 2**62.

    Returns:
        The options.

    Raises:
        TypeError, ValueError: ``system_memory`` is no such int.
    """
    check_int("system_memory", system_memory, 0, 1 << 62)
    return options_for_budget(system_memory // 4)


def buffer_config_for_budget(budget: int) -> tuple[BufferGroupsConfig, int]:
    """The tiers of buffers that fit a budget beside registered buffers and the ring, and how often they fit.

    Args:
        budget: bytes, as of `options_for_budget`.

    Returns:
        The ``buffer_groups`` and ``multi_size_buffer`` of `Options`.

    Raises:
        TypeError, ValueError: ``budget`` is no int of 62 bits.
    """
    budget = _clamped(budget)
    locked, entries = _locked_and_entries(budget)
    rest = (budget - locked - entries * ENTRY_OVERHEAD) // _MiB
    tiers = min((rest + 1).bit_length() - 1, len(_TIERS))
    config = BufferGroupsConfig.first(tiers)
    return config, rest * _MiB // config.total


def locked_buffer_layout(memory: int) -> tuple[int, int]:
    """Size and number of the registered buffers for so many bytes: 4 KiB, or larger so that 16384 suffice."""
    size = REGISTER_BUFFER_SIZE
    while memory > size * REGISTER_BUFFERS_MOST:
        size *= 2
    return size, memory // size


_ENTRIES_FOR = ((32 * _MiB, 128), (64 * _MiB, 512), (512 * _MiB, 2048), (4 * _GiB, 8192))


def _locked_and_entries(budget: int) -> tuple[int, int]:
    entries = next((entries for most, entries in _ENTRIES_FOR if budget <= most), ENTRIES_MOST)
    return max(budget // 4, LOCKED_LEAST), entries


def _clamped(budget: int) -> int:
    check_int("budget", budget, -(1 << 62), 1 << 62)
    return min(max(budget, BUDGET_LEAST), BUDGET_MOST)
