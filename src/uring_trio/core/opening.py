"""The ring of a Trio run, and the error where there is none.

It is independent of what the ring is used for.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from uring import abi
from uring.abi.layouts import NAPI
from uring.errors import RingUnavailable, unavailable_from_errno
from uring.kernel.memory import zeroed
from uring.kernel.ring import KernelRing

from .restrictions import numbers, restrict

if TYPE_CHECKING:
    from ..options import RingOptions

__all__ = ["SETUP", "open_ring", "unavailable"]

SETUP = int(
    abi.IORING_SETUP_SINGLE_ISSUER
    | abi.IORING_SETUP_DEFER_TASKRUN
    | abi.IORING_SETUP_TASKRUN_FLAG
    | abi.IORING_SETUP_SUBMIT_ALL
    | abi.IORING_SETUP_NO_SQARRAY
    | abi.IORING_SETUP_CQSIZE
)
"""How a run's rings are set up: one thread submits, and work is deferred until it enters."""
_DISABLED = int(abi.IORING_SETUP_R_DISABLED)


def open_ring(options: RingOptions) -> KernelRing:
    """A ring for a Trio run: single issuer, deferred work, waits not accounted as waits for a disk.

    Raises:
        RingUnavailable: the kernel opens none, for any reason: the options were checked when they were made.
    """
    try:
        ring = KernelRing(
            options.entries,
            SETUP if options.restrictions is None else SETUP | _DISABLED,
            cq_entries=options.cq_entries,
            enter_flags=int(abi.IORING_ENTER_NO_IOWAIT),
        )
        try:
            ring.spin_us = options.spin_us
            if options.napi_us:
                _poll_devices(ring, options.napi_us)
            if options.restrictions is not None:
                restrict(ring, numbers(options.restrictions))
        except BaseException:
            ring.close()
            raise
        return ring
    except RingUnavailable:
        raise
    except (OSError, MemoryError) as exc:
        raise unavailable(exc, "io_uring_setup", options) from exc


def _poll_devices(ring: KernelRing, microseconds: int) -> None:
    """Makes waits poll the queues of network devices for this long."""
    memory = zeroed(NAPI.size)
    NAPI.pack_into(memory.view, 0, microseconds, 0, int(abi.IO_URING_NAPI_REGISTER_OP), 0)
    try:
        ring.register(int(abi.IORING_REGISTER_NAPI), memory.address, 1, "register NAPI")
    except OSError as exc:
        raise RingUnavailable(
            exc.errno or errno.EIO,
            f"RingOptions(napi_us={microseconds}) was refused: it needs a kernel with "
            "CONFIG_NET_RX_BUSY_POLL, and no filter of io_uring_register; 0 does without",
        ) from exc


def unavailable(exc: OSError | MemoryError, call: str, options: RingOptions) -> RingUnavailable:
    """The error of a run that cannot have its ring, or what it needs besides: ``call`` failed."""
    number = errno.ENOMEM if isinstance(exc, MemoryError) else exc.errno or errno.EIO
    return unavailable_from_errno(number, call, options.buffers * options.buffer_size)
