"""The state of a ring, and the checks before it is used.

Invariant: one thread submits and waits (the one that started the ring), or, with ``multi_issuers``, any
thread under the ring's lock.
"""

from __future__ import annotations

import errno
import sys
import threading
from abc import ABCMeta, abstractmethod
from collections import deque
from dataclasses import dataclass
from threading import get_ident
from typing import TYPE_CHECKING

from .. import abi, ops
from ..abi.layouts import PROBE, PROBE_OP
from ..contexts.compiled import C, Queue, Table
from ..contexts.context import REQUEST_VALUES
from ..contexts.pools import ContextPools
from ..errors import CQOverflow, RingClosed, error_from_result
from ..kernel.memory import zeroed
from ..kernel.refusals import Refusals
from ..kernel.ring import CQE, CQE_BIG, KernelRing
from ..options import Options

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ..contexts.context import IndirectSQE
    from ..contexts.requests import Request
    from ..contexts.views import Completion
    from ..kernel.op import Op
    from ..options import OptionFields
    from .batch import Batch
    from .chains import Chain

__all__ = ["NOT_STARTED", "NO_THREAD", "STOPPED", "TARGETING", "Features", "RingState", "WrongThread"]

_MORE = int(abi.IORING_CQE_F_MORE)

NO_THREAD, NOT_STARTED, STOPPED = -1, -2, -3
"""Values of ``_owner`` that are no thread's: any thread may submit, none yet, none after the stop."""

TARGETING = frozenset(
    {
        int(abi.IORING_OP_ASYNC_CANCEL),
        int(abi.IORING_OP_LINK_TIMEOUT),
        int(abi.IORING_OP_POLL_REMOVE),
        int(abi.IORING_OP_TIMEOUT_REMOVE),
    }
)
"""Operations that name another one by its value."""

_CHECKED = TARGETING | {
    int(abi.IORING_OP_NOP128),
    int(abi.IORING_OP_URING_CMD),
    int(abi.IORING_OP_URING_CMD128),
    int(abi.IORING_OP_RECV_ZC),
    int(abi.IORING_OP_MSG_RING),
}


class WrongThread(RuntimeError):
    """A call by a thread that may not use the ring."""


@dataclass(frozen=True, slots=True)
class Features:
    """The sizes and features of a ring, as the kernel set it up.

    Attributes:
        sq_entries: entries of the submission queue.
        cq_entries: entries of the completion queue.
        sqe_bytes: bytes of a submission entry, 64 or 128.
        cqe_bytes: bytes of a completion, 16, or 32 with ``cqe32``.
        flags: ``IORING_FEAT_*``.
        setup_flags: ``IORING_SETUP_*``.
        user_data_byte_order: of the fields of a context: "little" or "big".
    """

    sq_entries: int
    cq_entries: int
    sqe_bytes: int
    cqe_bytes: int
    flags: abi.Feature
    setup_flags: abi.Setup
    user_data_byte_order: str


class RingState(Queue, metaclass=ABCMeta):
    """The ring's state, and the checks before it is used."""

    # Not in the dictionary of attributes: with more than 30 in there the interpreter does not remember where
    # an object's methods are. A ring that is leaked keeps that dictionary: all memory must be in it.
    __slots__ = (
        "_chain_zero_copy",
        "_chained",
        "_cqe_size",
        "_lock",
        "_put",
        "_put_packed",
        "_quiet",
        "_reap",
        "_refusals",
        "_silent",
        "_stopping",
        "_unpack",
        "_wait_entries",
        "_waiters",
    )

    def __init__(self, options: Options | None = None, **changes: Unpack[OptionFields]) -> None:
        if options is None:
            options = Options(**changes)
        elif changes:
            raise TypeError("give either Options or their fields as keywords")
        elif not isinstance(options, Options):
            instead = f": Ring(entries={options})" if type(options) is int else ""
            raise TypeError(f"Options are needed, not {type(options).__name__}{instead}")
        self._owner = NOT_STARTED
        self.options = options
        wq = options.attach_wq
        self._kernel = KernelRing(
            options.entries,
            options.setup_flags,
            cq_entries=options.cq_entries,
            sq_thread_cpu=options.sq_thread_cpu or 0,
            sq_thread_idle=options.sq_thread_idle,
            wq_fd=0 if wq is None else wq if isinstance(wq, int) else wq.fileno(),
        )
        self._wq = wq  # the workers' owner stays alive
        self._lock = threading.RLock()
        self._quiet = threading.Condition(self._lock)
        self._refusals = Refusals()
        self._waiters = 0
        self._stopping = False
        # Kept while in flight: under each value the requests, or the one slot.
        self._held: dict[int, tuple[Op, ...]] = {}
        self._slots: dict[int, IndirectSQE] = {}
        self._guarded: set[int] = set()
        self._renamed: dict[int, int] = {}
        # Values under which a result is decoded.
        self._decoding: set[int] = set()
        # Pipes that share a value in flight with others, and whose descriptors were handed out.
        self._given: set[Op] = set()
        # Requests in flight without a context, by value, and the last value; chains being made, by thread.
        self._requests: dict[int, Request[object]] = Table()
        self._serial = REQUEST_VALUES
        self._linking: dict[int, Chain] = {}
        # Batches with a request in flight.
        self._batches: list[Batch] = []
        self._chain = False
        self._chained = -1
        self._silent = False
        self._drained = False
        self._chain_zero_copy = False
        # Requests of threads that may not submit, and the number of messages on the way that wake the owner.
        self._posted: deque[Op] = deque()
        self._waking = 0
        self._backlog: list[Completion] = []
        self._late = 0
        self._wait_entries = 0
        try:
            self._kernel.track()
            self._bind()
            self._plain = self._probe()
            ops.nop().pack()
            self.pools: ContextPools = ContextPools(options.context_capacity or self._kernel.cq_entries)
            self._prepare()
        except BaseException:
            self._kernel.close()
            raise

    def _prepare(self) -> None:
        """Makes the attributes of a subclass; each calls its parent's first."""

    @property
    def started(self) -> bool:
        """Whether `start` was called."""
        return self._owner not in (NOT_STARTED, STOPPED)

    @property
    def closed(self) -> bool:
        """Whether the ring was stopped, or belongs to the parent of this process."""
        return self._owner == STOPPED or self._kernel.closed

    def fileno(self) -> int:
        """The ring's descriptor, for ``MSG_RING``, polling and `Options.attach_wq`.

        Raises:
            ValueError: it was made with `Options.registered_fd`, and has an index of this thread instead.
        """
        self._check_open()
        if self.options.registered_fd:
            raise ValueError("a ring made with registered_fd has no descriptor")
        return self._kernel.fd

    @property
    def ring_fd(self) -> int:
        """The ring's descriptor, as `fileno` gives it."""
        return self.fileno()

    @property
    def features(self) -> Features:
        """The ring's sizes and features, as the kernel set it up."""
        kernel = self._kernel
        setup = abi.Setup(kernel.flags)
        return Features(
            sq_entries=kernel.sq_entries,
            cq_entries=kernel.cq_entries,
            sqe_bytes=128 if setup & abi.IORING_SETUP_SQE128 else 64,
            cqe_bytes=32 if setup & abi.IORING_SETUP_CQE32 else 16,
            flags=abi.Feature(kernel.features),
            setup_flags=setup,
            user_data_byte_order=sys.byteorder,
        )

    @property
    def in_flight(self) -> int:
        """Submissions whose last completion was not taken, except those that complete on failure only."""
        return 0 if self._kernel.closed else self._kernel.inflight

    @property
    def sq_available(self) -> int:
        """Free places in the submission queue."""
        self._check_open()
        return self._kernel.space()

    @property
    def cq_pending(self) -> int:
        """Completions that wait to be taken, without those that are still deferred work."""
        self._check_open()
        return self._kernel.ready + len(self._kernel.unseen) // self._cqe_size + len(self._backlog)

    @property
    def overflows(self) -> int:
        """How often completions came faster than they were taken. None is lost; multishots end."""
        return 0 if self._kernel.closed else self._kernel.counters()["overflows"]

    @property
    def late(self) -> int:
        """Completions dropped because their slot was given back, or was never submitted."""
        return self._late

    @abstractmethod
    def _wait_for(self, request: Request[object], timeout: float | None = None) -> None:
        """Waits until a request is done, or for ``timeout`` seconds; other completions stay for `wait`."""

    def _pass_over(self, value: int) -> None:
        """Drops the completions of a request that is done from those kept for a later wait."""
        if not self._backlog:
            return
        with self._lock:
            backlog = self._backlog
            if backlog and backlog[0][0] == value and not backlog[0][2] & _MORE:
                del backlog[0]  # the only one, as where requests are waited for in the order of their ends
            else:
                self._split_backlog(value)

    def _split_backlog(self, value: int) -> list[Completion]:
        """Takes the completions under one value out of the backlog."""
        while True:
            before = self._backlog[:]
            found = [cqe for cqe in before if cqe[0] == value]
            kept = [cqe for cqe in before if cqe[0] != value]
            if self._backlog == before:  # a signal's handler has not waited meanwhile
                self._backlog = kept
                return found

    def supports(self, opcode: int) -> bool:
        """Whether the running kernel has an operation.

        Args:
            opcode: ``IORING_OP_*``, from 0 on.
        """
        return 0 <= opcode < len(self._plain) and self._plain[opcode] is not None

    def _bind(self) -> None:
        """Binds functions of the kernel's ring to attributes."""
        kernel = self._kernel
        self._put = kernel.put
        self._put_packed = kernel.put_packed
        self._reap = kernel.reap
        if C is not None:
            self._attach(kernel, *kernel.put_addresses())
        wide = self.options.cqe32 or self.options.cqe_mixed
        self._unpack = CQE_BIG.iter_unpack if wide else CQE.iter_unpack
        self._cqe_size = CQE_BIG.size if wide else CQE.size

    def _probe(self) -> list[bool | None]:
        """For each opcode: None not supported, False supported and to be checked, True without checks."""
        memory = zeroed(PROBE.size + 256 * PROBE_OP.size)
        self._kernel.register(int(abi.IORING_REGISTER_PROBE), memory.address, 256, "probe")
        plain: list[bool | None] = [None] * 256
        for op, flags in PROBE_OP.iter_unpack(memory.view[PROBE.size :]):
            if flags & abi.IO_URING_OP_SUPPORTED:
                plain[op] = op not in _CHECKED
        return plain

    def _end_chain(self) -> None:
        """A chain ends when the kernel has taken all of it. If it has not (no memory, or with SQPOLL its
        thread is behind) the next request is linked to the last."""
        self._chain = self._chain and self._kernel.pending > 0

    def _check_open(self) -> None:
        if self._owner == STOPPED or self._stopping:
            raise RingClosed("the ring was stopped")
        if self._kernel.closed:
            raise self._kernel.closed_error()

    def _check_usable(self) -> None:
        """Raises if the ring is not started, or this thread may not use it."""
        if self._owner not in (get_ident(), NO_THREAD):
            raise self._unusable()
        self._check_open()

    def _check_owner(self) -> None:
        """Raises if this thread may not register; before the start any thread may."""
        self._check_open()
        if self._owner not in (get_ident(), NO_THREAD, NOT_STARTED):
            raise self._thread_error()

    def _unusable(self) -> Exception:
        if self._owner == STOPPED:
            return RingClosed("the ring was stopped")
        if self._kernel.closed:
            return self._kernel.closed_error()
        if self._owner == NOT_STARTED:
            return RuntimeError("the ring was not started: call start(), or use it as a context manager")
        return self._thread_error()

    def _thread_error(self) -> WrongThread:
        return WrongThread(
            "the ring belongs to the thread that started it; one with multi_issuers=True takes several"
        )

    def _error(self, result: int, what: str) -> OSError:
        if result == -errno.EBADF:
            return self._kernel.closed_error()
        if result == -errno.EBADR:
            return CQOverflow("the kernel had no memory to keep completions in, and dropped some")
        return error_from_result(result, what)
