"""A ring without a kernel: a test decides what completes when, in which order and with which result.

``ScriptedRing`` has the interface of ``uring.kernel.ring.KernelRing`` that the manager uses, and follows the
kernel's rules for a ring with deferred task work: the contract tests pass on both. It is for tests, also
those of programs built on this package. It does no I/O but the polls named below.

Invariants
  - A request that the ring took is in ``running`` until its last completion is decided; it gets exactly one
    completion without ``F_MORE``.
  - A decided completion is deferred work: an enter that runs work (``cycle``, ``flush(1)``) hands it out, at
    most 20 an enter, as with ``DEFER_TASKRUN``.
  - A completion that finds the completion queue full waits in order behind it; none is lost.
  - Descriptors from `FAKE_FD` on are the script's. ``POLL_ADD`` on a lower one gets the real descriptor's
    state, so that wake-ups of a run loop work; everything else on it is scripted.
  - A request that completes into a slot of the ring's table fills it, and ``CLOSE`` empties it. A request on
    an empty slot, or with memory outside of a registered buffer, fails at once.

It writes no bytes to memory by address: data reaches a request through its buffer group alone.
"""

from __future__ import annotations

import errno
from collections import deque
from time import perf_counter
from typing import TYPE_CHECKING

from ... import abi
from ...errors import RingClosed
from ..lib import ffi
from ..ring import CQE
from ..volley import MEMBERS_MAX
from .request import FAKE_FD, Request, Template
from .serving import Completion, Serving
from .volley import ScriptedVolley, is_member

if TYPE_CHECKING:
    import random
    from collections.abc import Callable


__all__ = ["ScriptedRing"]

_NOP = int(abi.IORING_OP_NOP)
_LINK = int(abi.IOSQE_IO_LINK)
_F_MORE = int(abi.IORING_CQE_F_MORE)
_ECANCELED = -errno.ECANCELED
_ROUNDS = 64
_PATIENCE = 1000


class ScriptedRing(Serving):
    """A ring whose completions a test decides.

    Attributes:
        running: the requests that it took, oldest first.
        enter_results: results of the next enters: a negative errno consumes nothing, a count consumes so
            many entries (a short submit).
        held: while True enters consume no entries.
        full: while True there is no room for an entry, whatever the queue holds.
        target_first: a cancelled request's completion comes before that of the cancel.
        tables: direct descriptors and registered buffers, see `Tables`.
        volleys: those in flight. Their members are in ``running``, each completes as any other request.
        closed_fds: descriptors on which a cancel by descriptor fails with ``-EBADF``.
        on_start: called with each request as the kernel takes it.
        on_wait: called with the timeout when an enter would wait.
        scheduler: called with the ring at each enter that runs work; while there is one, there is work.
    """

    def __init__(self, entries: int = 256, cq_entries: int = 512) -> None:
        super().__init__(cq_entries)
        self.fd: int = FAKE_FD - 1
        self.sq_entries: int = entries
        self.out: memoryview[int] = memoryview(bytearray(CQE.size * cq_entries))
        self.eager: bool = False
        self.closed: bool = False
        self.inflight: int = 0
        self.volleys: dict[int, ScriptedVolley] = {}
        self.enter_results: deque[int] = deque()
        self.held: bool = False
        self.full: bool = False
        self.on_wait: Callable[[float], None] | None = None
        self.scheduler: Callable[[ScriptedRing], None] | None = None
        self._ahead = 0.0
        self._enters = self._completed = self._overflows = 0

    # ---- the ring's interface ------------------------------------------------------------------------

    def template(
        self, user_data: int, opcode: int, flags: int, fd: int, *fields: int, command: bytes = b""
    ) -> Template:
        if command:
            raise ValueError("scripted entries have no room for a command")
        return Template(self, (user_data, opcode, flags, fd, *fields))

    def queue(self, template: Template) -> int:
        return template.ring.put(*template.fields)

    def queue_at(self, template: Template, opcode: int, fd: int, off: int, addr: int, length: int) -> int:
        user_data, _, flags, *_ = template.fields
        return template.ring.put(user_data, opcode, flags, fd, off, addr, length)

    def queue_pair(self, first: Template, second: Template) -> int:
        error = self._reserve(2)
        if error:
            return error
        user_data, opcode, flags, fd, *fields = first.fields
        return self._write(Request(user_data, opcode, flags | _LINK, fd, *fields), Request(*second.fields))

    def put(self, user_data: int, opcode: int, flags: int, fd: int, *fields: int) -> int:
        return self._reserve(1) or self._write(Request(user_data, opcode, flags, fd, *fields))

    def queue_member(self, request: Request) -> int:
        """Queues a member of a volley, for the volley to submit."""
        error = self._reserve(1)
        if not error:
            self._queued.append(request)
            self.inflight += 1
        return error

    def register(self, opcode: int, address: int | None = None, nr_args: int = 0, what: str = "") -> int:
        if self.closed:
            raise self.closed_error()
        return self.tables.register(opcode, address, nr_args, what)

    def put_now(self, *fields: int) -> int:
        error = self.put(*fields)
        if not error:
            self.flush(0)
        return error

    def unqueue(self, user_data: int) -> int:
        if self.closed:
            return -errno.EBADF
        for i, request in enumerate(self._queued):
            if request.user_data == user_data:
                for member in self._queued[i:]:
                    linked = member.linked
                    self._make_nop(member)
                    if not linked:
                        break
                return 1
        return 0

    def end_unsent(self, instead: int) -> int:
        if self.closed:
            return -errno.EBADF
        n = 0
        inject = abi.IORING_NOP_INJECT_RESULT
        for request in self._queued:
            taken_back = (
                request.opcode == _NOP and request.op_flags == inject and request.length == _ECANCELED
            )
            if taken_back and request.user_data != instead:
                n = self._hand_out(Completion(request, request.user_data, _ECANCELED, 0), n)
                request.user_data = instead
                self.inflight += 1
        return n

    def flush(self, run_work: int) -> int:
        if self.closed:
            return -errno.EBADF
        if not self._queued and not run_work:
            return 0
        result = self._enter(bool(run_work))
        for _ in range(_ROUNDS):
            if not (run_work and self._work):
                break
            self._enters += 1
            self._run_work()
        return result

    def cycle(self, timeout: float) -> int:
        if self.closed:
            return -errno.EBADF
        ready = bool(self._posted)
        result = 0
        if self._queued or self._work or self._backlog or self.scheduler or not (ready or timeout == 0):
            self._overflows += bool(self._backlog)
            result = self._enter(True, timeout=0 if ready else timeout)
        elif not ready and timeout == 0 and self._answer_polls(0):
            result = self._enter(True)
        n = self._drain(0)
        for _ in range(_ROUNDS):
            if not (self._work or self._backlog) or n >= self.cq_entries:
                break
            self._overflows += bool(self._backlog)
            self._enters += 1
            self._run_work()
            n = self._drain(n)
        return n or (result if result < 0 and result != -errno.ETIME else 0)

    def poll(self) -> int:
        return self.cycle(0)

    def idle(self) -> int:
        if self.closed:
            return -errno.EBADF
        work = self._work or self._backlog or self.scheduler
        return int(not (self._queued or self._posted or work))

    def counters(self) -> dict[str, int]:
        return {
            "enters": self._enters,
            "submitted": self._submitted,
            "completed": self._completed,
            "overflows": self._overflows,
        }

    def now(self) -> float:
        return perf_counter() + self._ahead

    @property
    def pending(self) -> int:
        return 0 if self.closed else len(self._queued)

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.out.release()

    def closed_error(self) -> RingClosed:
        return RingClosed("the ring is closed")

    # ---- the script ----------------------------------------------------------------------------------

    def find(
        self, *, fd: int | None = None, opcode: int | None = None, user_data: int | None = None
    ) -> Request:
        """The oldest running request with these fields.

        Raises:
            LookupError: there is none.
        """
        for request in self.running:
            if (
                (fd is None or request.fd == fd)
                and (opcode is None or request.opcode == opcode)
                and (user_data is None or request.user_data == user_data)
            ):
                return request
        raise LookupError(f"no running request with fd={fd} opcode={opcode} user_data={user_data}")

    @property
    def queued(self) -> tuple[Request, ...]:
        """Entries that the kernel has not taken, oldest first."""
        return tuple(self._queued)

    @property
    def undelivered(self) -> tuple[int, ...]:
        """The user_data of the completions that are decided but not handed out."""
        return tuple(c.user_data for c in (*self._posted, *self._backlog, *self._work))

    def expire(self, request: Request, res: int = _ECANCELED) -> None:
        """Lets the linked timeout of a running request fire: ``-ETIME``, then ``res`` for the request. The
        ring's clock, `now`, goes on from that time.

        Raises:
            ValueError: the request has no linked timeout.
        """
        timeout, request.timeout = request.timeout, None
        if timeout is None:
            raise ValueError("this request has no linked timeout")
        self._ahead = max(self._ahead, _seconds_until(timeout))
        self._work.append(Completion(None, timeout.user_data, -errno.ETIME, 0))
        self.complete(request, res)

    def forge(self, user_data: int, res: int, flags: int = 0) -> None:
        """Posts a completion of no request: a late one, or one of another ring."""
        self.inflight += 0 if flags & _F_MORE else 1
        self._post(Completion(None, user_data, res, flags))

    def shuffle(self, rng: random.Random) -> None:
        """Reorders deferred work; the completions of one request keep their order."""
        mixed = self._work[:]
        rng.shuffle(mixed)
        in_order: dict[int, deque[Completion]] = {}
        for completion in self._work:
            in_order.setdefault(completion.user_data, deque()).append(completion)
        self._work = [in_order[completion.user_data].popleft() for completion in mixed]

    # ---- entering -----------------------------------------------------------------------------------

    def _reserve(self, number: int) -> int:
        if self.closed:
            return -errno.EBADF
        if number > self.sq_entries:
            return -errno.EBUSY
        if len(self._queued) + number > self.sq_entries:
            self.flush(0)
        return -errno.EBUSY if self.full or len(self._queued) + number > self.sq_entries else 0

    def _write(self, *entries: Request) -> int:
        self._queued += entries
        self.inflight += len(entries)
        if self.eager:
            self.flush(0)
        return 0

    def _enter(self, run_work: bool, timeout: float = 0) -> int:
        self._enters += 1
        count = len(self._queued)
        taken = 0 if self.held else count
        if self.enter_results:
            scripted = self.enter_results.popleft()
            if scripted < 0:
                return scripted
            taken = min(taken, scripted)
        for _ in range(taken):
            if self._queued:
                self._take(self._queued.pop(0))
        self._submitted += taken
        if run_work:
            if self.scheduler is not None:
                self.scheduler(self)
            self._answer_polls(0)
            self._run_work()
            if timeout and taken == count and not self._posted:
                self._wait(timeout)
                self._run_work()
                if not self._posted:
                    return taken or -errno.ETIME
        return taken

    def _wait(self, timeout: float) -> None:
        if self.on_wait is not None:
            self.on_wait(timeout)
        for _ in range(_PATIENCE):
            if self.scheduler is None or self._work or self._posted:
                break
            self.scheduler(self)
            self._answer_polls(0)
        if not self._work and not self._posted:
            self._answer_polls(timeout)

    def _drain(self, n: int) -> int:
        while self._posted and n < self.cq_entries:
            self._completed += 1
            n = self._hand_out(self._posted.popleft(), n)
        return n

    def _hand_out(self, completion: Completion, n: int) -> int:
        if not completion.flags & _F_MORE:
            self.inflight -= 1
        volley = self._volley_of(completion.user_data)
        if volley is None:
            CQE.pack_into(self.out, n * CQE.size, completion.user_data, completion.res, completion.flags)
            return n + 1
        if volley.take(completion.user_data, completion.res, completion.flags):
            CQE.pack_into(self.out, n * CQE.size, volley.user_data, 0, 0)
            return n + 1
        return n

    def _volley_of(self, user_data: int) -> ScriptedVolley | None:
        return self.volleys.get(user_data & ~(MEMBERS_MAX - 1)) if is_member(user_data) else None

    def _make_nop(self, request: Request) -> None:
        request.opcode, request.flags, request.fd = _NOP, 0, 0
        request.length, request.op_flags = _ECANCELED, int(abi.IORING_NOP_INJECT_RESULT)


def _seconds_until(timeout: Request) -> float:
    """The seconds until a timeout expires."""
    seconds, nanoseconds = ffi.cast("int64_t *", timeout.addr)[0:2] if timeout.addr else (0, 0)
    when: float = seconds + nanoseconds / 1e9
    return when - perf_counter() if timeout.op_flags & abi.IORING_TIMEOUT_ABS else when
