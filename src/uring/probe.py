"""The features of the running kernel's io_uring, from the kernel's answers and never from its version.

``probe()`` asks once per process. Since Linux 6.18 one query answers for flags, features and registrations.
A kernel without it is asked by trying: each set-up flag on a ring that is closed at once, each registration
with an address that cannot be read. A kernel that has the registration refuses that by another error than
``EINVAL``.

Invariants
  - Asking changes nothing: not the ring it was asked through, not the process's kernel workers.
  - A refusal is not remembered; the next call asks again.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Final

from . import abi
from .abi import Enter, Feature, Register, Setup, Sqe
from .abi.layouts import PROBE, PROBE_OP, QUERY_HDR, QUERY_OPCODE
from .errors import NotSupported
from .kernel.memory import zeroed
from .kernel.ring import KernelRing
from .opcodes import by_number

__all__ = ["Probe", "probe"]


@dataclass(frozen=True, slots=True)
class Probe:
    """The features of this kernel; numbers that ``uring.abi`` does not know are kept unchanged.

    ``queried`` says that the kernel itself told the flags, features and registrations (Linux 6.18); else they
    were found by trying, and ``enter_flags`` and ``entry_flags`` are 0, since these cannot be tried.
    """

    operations: frozenset[int]
    register_ops: frozenset[int]
    features: Feature
    setup_flags: Setup
    enter_flags: Enter
    entry_flags: Sqe
    queried: bool

    def supports(self, opcode: int) -> bool:
        """Whether this ``IORING_OP_*`` can be submitted."""
        return opcode in self.operations

    def require(self, opcode: int) -> None:
        """Raises `NotSupported`, which names the operation and the kernel it needs, if this one lacks it."""
        if opcode not in self.operations:
            row = by_number(opcode)
            raise NotSupported(row.number.name, f"Linux {row.since}")


def probe(ring: KernelRing | None = None) -> Probe:
    """The features of this kernel, asked through ``ring`` or through a new one; cached afterwards.

    Raises:
        RingUnavailable: this machine refuses io_uring; the message names the setting to change.
        RingClosed: nothing is remembered yet and ``ring`` is closed.
        OSError: this thread may not register with ``ring``, or its restrictions forbid to ask.
    """
    global _known
    if _known is None:
        if ring is not None:
            _known = _ask(ring)
        else:
            own = KernelRing(_ENTRIES, 0)
            try:
                _known = _ask(own)
            finally:
                own.close()
    return _known


_known: Probe | None = None
_ENTRIES: Final = 2
_MOST_OPERATIONS: Final = 256


def _ask(ring: KernelRing) -> Probe:
    operations = _operations(ring)
    answer = _query(ring)
    if answer is None:
        setup = _try_setup_flags(ring)
        return Probe(
            operations=operations,
            register_ops=_try_registrations(setup),
            features=Feature(ring.features),
            setup_flags=setup,
            enter_flags=Enter(0),
            entry_flags=Sqe(0),
            queried=False,
        )
    _, registrations, features, setup_bits, enter, entry, _ = answer
    return Probe(
        operations=operations,
        register_ops=frozenset(range(registrations)),
        features=Feature(features),
        setup_flags=Setup(setup_bits),
        enter_flags=Enter(enter),
        entry_flags=Sqe(entry),
        queried=True,
    )


def _operations(ring: KernelRing) -> frozenset[int]:
    memory = zeroed(PROBE.size + _MOST_OPERATIONS * PROBE_OP.size)
    ring.register(Register.IORING_REGISTER_PROBE, memory.address, _MOST_OPERATIONS)
    _, count = PROBE.unpack_from(memory.view)
    rows = PROBE_OP.iter_unpack(memory.view[PROBE.size : PROBE.size + count * PROBE_OP.size])
    return frozenset(number for number, flags in rows if flags & abi.IO_URING_OP_SUPPORTED)


def _query(ring: KernelRing) -> tuple[int, ...] | None:
    """The kernel's own answer, or None if it cannot be queried."""
    answer = zeroed(QUERY_OPCODE.size)
    header = zeroed(QUERY_HDR.size)
    QUERY_HDR.pack_into(header.view, 0, 0, answer.address, abi.IO_URING_QUERY_OPCODES, QUERY_OPCODE.size, 0)
    if _result(ring, Register.IORING_REGISTER_QUERY, header.address, 0) < 0:
        return None
    *_, result = QUERY_HDR.unpack_from(header.view)
    return None if result < 0 else QUERY_OPCODE.unpack_from(answer.view)


def _result(ring: KernelRing, opcode: int, address: int, nr_args: int) -> int:
    try:
        return ring.register(opcode, address, nr_args)
    except OSError as exc:
        return -(exc.errno or errno.EIO)


# ---- asking a kernel that cannot be queried ------------------------------------------------------------

# The flag that a set-up flag needs beside itself.
_NEEDS: Final = {
    Setup.IORING_SETUP_SQ_AFF: Setup.IORING_SETUP_SQPOLL,
    Setup.IORING_SETUP_TASKRUN_FLAG: Setup.IORING_SETUP_COOP_TASKRUN,
    Setup.IORING_SETUP_DEFER_TASKRUN: Setup.IORING_SETUP_SINGLE_ISSUER,
    Setup.IORING_SETUP_REGISTERED_FD_ONLY: Setup.IORING_SETUP_NO_MMAP,
    Setup.IORING_SETUP_HYBRID_IOPOLL: Setup.IORING_SETUP_IOPOLL,
}


def _try_setup_flags(ring: KernelRing) -> Setup:
    return Setup(sum(flag for flag in Setup if _can_set_up(flag, ring.fd)))


def _can_set_up(flag: Setup, wq_fd: int) -> bool:
    try:
        KernelRing(
            _ENTRIES,
            flag | _NEEDS.get(flag, 0),
            cq_entries=2 * _ENTRIES if flag & Setup.IORING_SETUP_CQSIZE else 0,
            wq_fd=wq_fd if flag & Setup.IORING_SETUP_ATTACH_WQ else 0,
        ).close()
    except (OSError, ValueError):
        return False
    return True


# In the upper half of the address space, which no process can read.
_UNREADABLE: Final = -4096 & (1 << 64) - 1
_NO_REGISTRATION: Final = 0x7FFF

# The count that each registration checks before its argument; 1 where it is not listed.
_COUNTS: Final = {
    Register.IORING_REGISTER_FILES2: 32,
    Register.IORING_REGISTER_FILES_UPDATE2: 32,
    Register.IORING_REGISTER_BUFFERS2: 32,
    Register.IORING_REGISTER_BUFFERS_UPDATE: 32,
    Register.IORING_REGISTER_IOWQ_AFF: 8,
    Register.IORING_REGISTER_IOWQ_MAX_WORKERS: 2,
    Register.IORING_REGISTER_FILE_ALLOC_RANGE: 0,
    Register.IORING_REGISTER_CLOCK: 0,
    Register.IORING_REGISTER_QUERY: 0,
    Register.IORING_REGISTER_ZCRX_CTRL: 0,
}

# Registrations without an argument, where a try would take effect, or without a ring: each came with another.
_CAME_WITH: Final = {
    Register.IORING_UNREGISTER_BUFFERS: Register.IORING_REGISTER_BUFFERS,
    Register.IORING_UNREGISTER_FILES: Register.IORING_REGISTER_FILES,
    Register.IORING_UNREGISTER_EVENTFD: Register.IORING_REGISTER_EVENTFD,
    Register.IORING_REGISTER_PERSONALITY: Register.IORING_REGISTER_PROBE,
    Register.IORING_UNREGISTER_PERSONALITY: Register.IORING_REGISTER_PROBE,
    Register.IORING_REGISTER_ENABLE_RINGS: Register.IORING_REGISTER_RESTRICTIONS,
    Register.IORING_UNREGISTER_IOWQ_AFF: Register.IORING_REGISTER_IOWQ_AFF,
    Register.IORING_REGISTER_SEND_MSG_RING: Register.IORING_REGISTER_RESIZE_RINGS,
}


def _try_registrations(setup: Setup) -> frozenset[int]:
    # Some registrations need a ring of one task, and zero-copy receive needs 32-byte completions.
    wanted = Setup.IORING_SETUP_SINGLE_ISSUER | Setup.IORING_SETUP_DEFER_TASKRUN | Setup.IORING_SETUP_CQE32
    ring = KernelRing(_ENTRIES, wanted & setup)
    try:
        if _result(ring, _NO_REGISTRATION, _UNREADABLE, 1) != -errno.EINVAL:
            return frozenset()  # not the kernel's answer, but that of a sandbox
        known = {
            opcode
            for opcode in Register
            if opcode not in _CAME_WITH
            and _result(ring, opcode, _UNREADABLE, _COUNTS.get(opcode, 1)) != -errno.EINVAL
        }
    finally:
        ring.close()
    return frozenset(known | {opcode for opcode, other in _CAME_WITH.items() if other in known})
