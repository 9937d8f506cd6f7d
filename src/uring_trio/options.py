"""The options of a ring run: sizes of the queues and of the receive buffers, deadlines, limits."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any, Literal

__all__ = ["RingOptions"]


def _operations(names: object) -> tuple[str, ...]:
    """The names of operations as the kernel's table has them, in lower case and once each."""
    from uring.opcodes import by_name  # a run without restrictions needs no table

    if isinstance(names, (str, bytes)) or not isinstance(names, Iterable):
        raise TypeError(f'restrictions are names of operations, such as ("openat", "read"), not {names!r}')
    found = set()
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f'a restriction is the name of an operation, such as "read", not {name!r}')
        try:
            found.add(by_name(name).name.lower())
        except LookupError:
            raise ValueError(
                f"restrictions has {name!r}, which is no operation: python -m uring prints their names"
            ) from None
    return tuple(sorted(found))


def _compiled() -> bool:
    return os.environ.get("URING_TRIO_COMPILED") != "0"


@dataclass(frozen=True, slots=True)
class RingOptions:
    """Settings of one ring run.

    Args:
        entries: submission queue size, a power of two up to 32768. A full queue is flushed, so this is
            how much one system call can carry, not how much can be in flight.
        cq_entries: completion queue size, a power of two up to 65536. The kernel keeps completions that do
            not fit, and counts them as overflows.
        buffers: provided receive buffers at most, 1 to 32768: how many receives may complete at one moment
            without a second request each. They hold data only between its arrival and the next step of the
            task that receives it. A run begins with 16, has twice as many whenever a receive finds none, and
            gives back what was idle for ten seconds. Their addresses are reserved from the start.
        buffer_size: bytes in each, 64 to 16 MiB: the most that one receive returns through them.
        workers: how many kernel workers may run at once for paths, fsync and writes that wait; 0 leaves the
            kernel's bound of four times the processors.
        group_memory: bytes that the buffers of one subscription may take, up to 16 GiB.
        gather_us: microseconds, up to 10 s, for which the socket may coalesce the data of a TCP stream while
            ``chunks()`` yields many MiB fast, into fewer and larger pieces; 0: never. The last bytes before a
            pause may be delayed by that time, once in 8 MiB; the end of the stream is not delayed.
        spin_us: microseconds, up to 10 ms, for which a wait looks for completions before it sleeps; 0: it
            sleeps at once. A process that sleeps takes longer to answer, one that looks keeps its processor
            busy. A deadline or a timeout that is due ends the looking, as do a signal, a wake-up from another
            thread and any completion. A guest run waits in its host's thread, and does not look.
        napi_us: microseconds, up to 10 s, for which a wait polls the queues of the network devices that the
            run's sockets receive from (NAPI busy poll, Linux 6.9), in place of waiting for their interrupts;
            0: never. Without effect over loopback. Where the kernel refuses it no run starts:
            `RingUnavailable` says so.
        direct_slots: how many direct descriptors a run may have, 32 to 1048576; ``RLIMIT_NOFILE`` bounds it.
        deadlines: what ends an operation when the deadline of its cancel scope passes. Either way Trio
            raises `trio.Cancelled`, and a result that arrived is delivered.

            ``"cancel"``: Trio's timer. A deadline that is due at the start of a tick expires before the ring
            is entered, so that data which arrived after it stays in the socket, however busy the loop was.
            Data that arrived just before it, while the loop was busy, stays there too. This costs nothing.

            ``"link"``: the kernel's timer. Every operation under a finite deadline is submitted with a linked
            timeout, two entries and two completions: exact to the operation even while the loop is busy,
            and data which arrived before the deadline is delivered.

            ``"auto"``: the kernel's timer for operations that start within 100 ms of their deadline,
            Trio's for the others.

            Trio's timer also cancels operations in kernel workers (path operations, fsync, splice), and is
            the only one under a mock clock.
        compiled: whether scheduler ticks run in C where this Trio allows it. They do what Trio's loop does:
            False, or ``URING_TRIO_COMPILED=0`` in the environment, is for comparisons.
        monitor: whether ``python -m uring_trio top`` may look at the run, through a Unix socket that this
            user alone can open. It costs a system task, and more only while a viewer is connected.
        restrictions: names of the operations that the ring may do, such as ``("openat", "read", "statx")``,
            in upper or lower case; None: all of them. Those that the run itself needs are allowed besides:
            ``nop``, ``poll_add``, ``poll_remove``, ``timeout``, ``timeout_remove``, ``async_cancel``,
            ``link_timeout``, ``recv``, ``close``. The kernel refuses any other, and the call that needs it
            raises `OperationRestricted` with its name. The list cannot be changed while the run lasts. As
            text for the launcher the names have ``+`` between them.
    """

    entries: int = 256
    cq_entries: int = 4096
    buffers: int = 2048
    buffer_size: int = 65536
    group_memory: int = 64 << 20
    deadlines: Literal["auto", "link", "cancel"] = "auto"
    workers: int = 0
    direct_slots: int = 4096
    gather_us: int = 500
    spin_us: int = 0
    napi_us: int = 0
    compiled: bool = field(default_factory=_compiled)
    monitor: bool = False
    restrictions: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for name, least, most in (
            ("entries", 2, 32768),
            ("cq_entries", 2, 65536),
            ("buffers", 1, 32768),
            ("buffer_size", 64, 16 << 20),
            ("workers", 0, 65536),
            ("group_memory", 4096, 16 << 30),
            ("direct_slots", 32, 1 << 20),
            ("gather_us", 0, 10_000_000),
            ("spin_us", 0, 10_000),
            ("napi_us", 0, 10_000_000),
        ):
            value = getattr(self, name)
            if type(value) is not int:
                raise TypeError(f"{name} is an int, not {type(value).__name__}")
            if not least <= value <= most:
                raise ValueError(f"{name} is {least} to {most}, not {value}")
        for name in ("compiled", "monitor"):
            if type(getattr(self, name)) is not bool:
                raise TypeError(f"{name} is True or False, not {getattr(self, name)!r}")
        if self.deadlines not in ("auto", "link", "cancel"):
            raise ValueError(f'deadlines is "auto", "link" or "cancel", not {self.deadlines!r}')
        for name in ("entries", "cq_entries"):
            value = getattr(self, name)
            if value & (value - 1):
                raise ValueError(f"{name} is a power of two, not {value}")
        if self.cq_entries < self.entries:
            raise ValueError(f"cq_entries ({self.cq_entries}) is at least entries ({self.entries})")
        if self.restrictions is not None:
            object.__setattr__(self, "restrictions", _operations(self.restrictions))

    @classmethod
    def parse(cls, text: str) -> RingOptions:
        """From ``"entries=512,buffers=64"``, as the launcher takes them.

        Args:
            text: ``name=value`` pairs with commas in between; the names are those of the fields.

        Raises:
            ValueError: an unknown name or a value that is not a number.
        """
        known = {each.name for each in fields(cls)}
        values: dict[str, Any] = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            name, equals, value = part.partition("=")
            if not equals or name not in known:
                raise ValueError(f"ring options are {', '.join(sorted(known))} as name=value, not {part!r}")
            try:
                if name == "restrictions":
                    values[name] = tuple(filter(None, value.split("+")))
                elif name in ("compiled", "monitor"):
                    values[name] = {"0": False, "1": True}[value]
                else:
                    values[name] = value if name == "deadlines" else int(value)
            except (ValueError, KeyError):
                raise ValueError(f"{name} is a number, not {value!r}") from None
        return cls(**values)
