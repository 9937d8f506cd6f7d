"""The list of operations that a run's ring may do.

It is registered while the ring is not enabled yet, and cannot be changed afterwards. The kernel completes any
other operation with ``EACCES``, before it looks at a descriptor, an address or a path.

Invariant: `NEEDED` and `REGISTRATIONS` are always allowed, so that waits, cancels, deadlines, plain sockets
and the end of the run do not depend on the list.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Protocol

from uring import abi
from uring.abi.layouts import RESTRICTION
from uring.errors import OperationRestricted, explain_cancelled
from uring.kernel.memory import zeroed
from uring.opcodes import by_name, by_number

if TYPE_CHECKING:
    from collections.abc import Collection

    from uring.kernel.ring import KernelRing

__all__ = ["NEEDED", "check", "explained", "names", "numbers", "restrict"]

NEEDED = (
    "nop", "poll_add", "poll_remove", "timeout", "timeout_remove", "async_cancel", "link_timeout", "recv",
    "close",
)  # fmt: skip
"""Wake-ups, readiness, cancels, deadlines, receives of plain sockets, and closing slots of the file table."""

REGISTRATIONS = (
    abi.IORING_REGISTER_EVENTFD,
    abi.IORING_UNREGISTER_EVENTFD,
    abi.IORING_REGISTER_PROBE,
    abi.IORING_REGISTER_PBUF_RING,
    abi.IORING_UNREGISTER_PBUF_RING,
    abi.IORING_REGISTER_PBUF_STATUS,
    abi.IORING_REGISTER_IOWQ_MAX_WORKERS,
    abi.IORING_REGISTER_FILES2,
    abi.IORING_REGISTER_FILE_ALLOC_RANGE,
    abi.IORING_REGISTER_BUFFERS2,
    abi.IORING_REGISTER_BUFFERS_UPDATE,
)
"""The registrations of a run's parts: no personalities, no buffers of other rings, no network queues."""

_EVERY_FLAG = 0xFF


class Restricted(Protocol):
    """The part of the engine that is used here."""

    allowed: frozenset[int] | None


def numbers(names: Collection[str]) -> frozenset[int]:
    """The opcodes of these operations and of what a run needs."""
    return frozenset(int(by_name(name).number) for name in (*NEEDED, *names))


def names(allowed: Collection[int]) -> tuple[str, ...]:
    """The names of opcodes, as `RingOptions.restrictions` takes them."""
    return tuple(sorted(by_number(opcode).name.lower() for opcode in allowed))


def restrict(ring: KernelRing, allowed: Collection[int]) -> None:
    """Registers the list with a ring that was opened with ``IORING_SETUP_R_DISABLED``, and enables the ring.

    Raises:
        OSError: the kernel refuses one of the two.
    """
    pairs = [
        *((abi.IORING_RESTRICTION_SQE_OP, opcode) for opcode in sorted(allowed)),
        *((abi.IORING_RESTRICTION_REGISTER_OP, opcode) for opcode in REGISTRATIONS),
        (abi.IORING_RESTRICTION_SQE_FLAGS_ALLOWED, _EVERY_FLAG),
    ]
    memory = zeroed(len(pairs) * RESTRICTION.size)
    for i, (kind, value) in enumerate(pairs):
        RESTRICTION.pack_into(memory.view, i * RESTRICTION.size, int(kind), int(value))
    what = "register restrictions"
    ring.register(int(abi.IORING_REGISTER_RESTRICTIONS), memory.address, len(pairs), what)
    ring.register(int(abi.IORING_REGISTER_ENABLE_RINGS), None, 0, "enable the ring")


def check(engine: Restricted, opcode: int, res: int) -> None:
    """Raises `OperationRestricted` if a result says that the run's restrictions refuse the operation."""
    if res == -errno.EACCES and engine.allowed is not None and opcode not in engine.allowed:
        raise OperationRestricted(by_number(opcode).name.lower())


def explained(engine: Restricted, opcode: int, error: OSError, op: str = "") -> OSError:
    """The exception for an operation that failed without a cancel: the same one, or one that says why."""
    if error.errno != errno.EACCES or engine.allowed is None or opcode in engine.allowed:
        return explain_cancelled(error, op)
    return OperationRestricted(by_number(opcode).name.lower())
