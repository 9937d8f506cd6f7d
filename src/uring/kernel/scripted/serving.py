"""The kernel's side of a scripted ring: the handling of the entries that an enter took.

It starts requests, completes those that need no script (nops, cancels, those on an empty slot), ends chains,
and posts decided completions. It has neither the submission queue's interface nor a clock. `ScriptedRing`
says the invariants.
"""

from __future__ import annotations

import errno
import select
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ... import abi
from .tables import Tables

if TYPE_CHECKING:
    from collections.abc import Callable

    from .request import Request

__all__ = ["Completion", "Serving"]

_NOP = int(abi.IORING_OP_NOP)
_ASYNC_CANCEL = int(abi.IORING_OP_ASYNC_CANCEL)
_POLL_ADD = int(abi.IORING_OP_POLL_ADD)
_POLL_REMOVE = int(abi.IORING_OP_POLL_REMOVE)
_TIMEOUT = int(abi.IORING_OP_TIMEOUT)
_TIMEOUT_REMOVE = int(abi.IORING_OP_TIMEOUT_REMOVE)
_LINK_TIMEOUT = int(abi.IORING_OP_LINK_TIMEOUT)
_HARDLINK = int(abi.IOSQE_IO_HARDLINK)
_SELECT = int(abi.IOSQE_BUFFER_SELECT)
_F_BUFFER = int(abi.IORING_CQE_F_BUFFER)
_F_MORE = int(abi.IORING_CQE_F_MORE)
_CANCEL_ALL = int(abi.IORING_ASYNC_CANCEL_ALL)
_CANCEL_FD = int(abi.IORING_ASYNC_CANCEL_FD)
_CANCEL_ANY = int(abi.IORING_ASYNC_CANCEL_ANY)
_CANCEL_FD_FIXED = int(abi.IORING_ASYNC_CANCEL_FD_FIXED)
_CLOSE = int(abi.IORING_OP_CLOSE)
_WITH_REGISTERED = (int(abi.IORING_OP_READ_FIXED), int(abi.IORING_OP_WRITE_FIXED))
_ECANCELED = -errno.ECANCELED
_WORK_AN_ENTER = 20


@dataclass(slots=True)
class Completion:
    """A completion that was decided, of a request or of none."""

    request: Request | None
    user_data: int
    res: int
    flags: int


class Serving:
    """The state of a ring in the kernel, and the kernel's actions on it.

    Args:
        cq_entries: places of the completion queue.
    """

    def __init__(self, cq_entries: int) -> None:
        self.cq_entries: int = cq_entries
        self.groups: dict[int, Any] = {}
        self.tables: Tables = Tables()
        self.running: list[Request] = []
        self.target_first: bool = False
        self.closed_fds: set[int] = set()
        self.on_start: Callable[[Request], None] | None = None
        self._queued: list[Request] = []
        self._submitted = 0
        self._work: list[Completion] = []
        self._posted: deque[Completion] = deque()
        self._backlog: deque[Completion] = deque()

    def complete(
        self,
        request: Request,
        res: int = 0,
        flags: int = 0,
        *,
        data: bytes | None = None,
        posted: bool = False,
    ) -> None:
        """Decides a completion of a running request: the last one, unless ``flags`` has ``F_MORE``.

        Args:
            data: received bytes, which take a buffer of the request's group (``-ENOBUFS`` if none is left).
            posted: it is in the completion queue at once and no cancel can overtake it, as where the first
                attempt succeeds; otherwise it is deferred work, which a cancel still overtakes.

        Raises:
            ValueError: the request is not running.
        """
        if request not in self.running:
            raise ValueError("this request is not running")
        if data is not None:
            res, flags = self._fill(request, data, flags)
        if request.direct and res >= 0:
            res = self.tables.place(request.file_index)
            flags = flags if res >= 0 else 0
        completion = Completion(request, request.user_data, res, flags)
        if not flags & _F_MORE:
            self.running.remove(request)
        if posted:
            self._post(completion)
        else:
            self._work.append(completion)

    def _answer_polls(self, timeout: float) -> bool:
        """Answers the polls on real descriptors; True if one was ready."""
        undecided = {id(completion.request) for completion in self._work}
        undecided.update(id(completion.request) for completion in self._posted)
        polls = [r for r in self.running if r.truthful and id(r) not in undecided]
        if not polls and not timeout:
            return False
        poller = select.poll()
        for fd in {r.fd for r in polls}:
            mask = 0
            for request in polls:
                if request.fd == fd:
                    mask |= request.op_flags
            poller.register(fd, mask)
        always = select.POLLERR | select.POLLHUP | select.POLLNVAL
        ready = dict(poller.poll(None if timeout < 0 else timeout * 1000))
        for request in polls:
            events = ready.get(request.fd, 0) & (request.op_flags | always)
            if events & select.POLLNVAL:
                self.complete(request, -errno.EBADF)
            elif events:
                self.complete(request, events, _F_MORE if request.multishot else 0)
        return bool(ready)

    def _take(self, request: Request) -> None:
        """The kernel consumes one entry, with those linked behind it."""
        member = request
        while member.linked and self._queued:
            following = self._queued.pop(0)
            self._submitted += 1
            linked = following.linked
            if following.opcode == _LINK_TIMEOUT:
                member.timeout = following
            else:
                request.followers.append(following)
            if not linked:
                break
            member = following
        self._start(request)

    def _start(self, request: Request) -> None:
        if request.opcode == _NOP:
            inject = request.op_flags & abi.IORING_NOP_INJECT_RESULT
            self._finish_inline(request, _signed(request.length) if inject else 0)
        elif request.opcode == _ASYNC_CANCEL:
            self._cancel(request)
        elif request.opcode in (_POLL_REMOVE, _TIMEOUT_REMOVE):
            kind = _POLL_ADD if request.opcode == _POLL_REMOVE else _TIMEOUT
            found = [r for r in self.running if r.opcode == kind and r.user_data == request.addr]
            self._finish_inline(request, 0 if found else -errno.ENOENT)
            for target in found[:1]:
                self.complete(target, _ECANCELED)
        elif request.opcode == _LINK_TIMEOUT:
            self._finish_inline(request, -errno.EINVAL)
        elif request.opcode == _CLOSE and request.file_index:
            self._finish_inline(request, self.tables.empty(request.file_index))
        elif request.fixed and not self.tables.filled(request.fd):
            self._finish_inline(request, -errno.EBADF)
        elif request.opcode in _WITH_REGISTERED and not self.tables.buffer_holds(
            request.buf_index, request.addr, request.length
        ):
            self._finish_inline(request, -errno.EFAULT)
        elif request.flags & _SELECT and not self._has_buffer(request.buf_index):
            self._finish_inline(request, -errno.ENOBUFS)
        else:
            self.running.append(request)
            if self.on_start is not None:
                self.on_start(request)

    def _finish_inline(self, request: Request, res: int) -> None:
        self._post(Completion(request, request.user_data, res, 0))

    def _end_chain(self, request: Request, res: int) -> None:
        if request.timeout is not None:
            self._work.append(Completion(None, request.timeout.user_data, _ECANCELED, 0))
            request.timeout = None
        followers, request.followers = request.followers, []
        if not followers:
            return
        if res < 0 and not request.flags & _HARDLINK:
            self._work.extend(Completion(r, r.user_data, _ECANCELED, 0) for r in followers)
        else:
            followers[0].followers = followers[1:]
            self._start(followers[0])

    def _cancel(self, cancel: Request) -> None:
        flags = cancel.op_flags
        if flags & _CANCEL_FD and cancel.fd in self.closed_fds:
            self._finish_inline(cancel, -errno.EBADF)
            return
        deferred = [c.request for c in self._work if c.request is not None and not c.flags & _F_MORE]
        found: list[Request] = []
        for request in (*self.running, *deferred):
            if request.on_cancel == "uncancellable":
                continue
            if flags & _CANCEL_ANY or (
                (request.fd, request.fixed) == (cancel.fd, bool(flags & _CANCEL_FD_FIXED))
                if flags & _CANCEL_FD
                else request.user_data == cancel.addr
            ):
                found.append(request)
        if not flags & _CANCEL_ALL:
            del found[1:]
        if flags & (_CANCEL_ALL | _CANCEL_ANY):
            res = len(found)
        elif not found:
            res = -errno.ENOENT
        else:
            res = -errno.EALREADY if found[0].on_cancel == "running" else 0
        ended = [request for request in found if self._interrupt(request)]
        if self.target_first:
            done = [c for c in self._work if c.request in ended and not c.flags & _F_MORE]
            self._work = [c for c in self._work if c not in done]
            for completion in done:
                self._post(completion)
        self._finish_inline(cancel, res)

    def _interrupt(self, request: Request) -> bool:
        request.interrupted += 1
        if request.on_cancel == "running":
            return False
        if request in self.running:
            self.complete(request, _ECANCELED)
            return True
        # Data arrived, but deferred work has not run: the cancel wins, and the data stays in the file.
        for completion in self._work:
            if completion.request is request and not completion.flags & _F_MORE:
                self._take_back(request, completion)
                completion.res, completion.flags = _ECANCELED, 0
        return True

    def _take_back(self, request: Request, completion: Completion) -> None:
        if completion.flags & _F_BUFFER:
            self.groups[request.buf_index].restore(completion.flags >> 16)
        if request.direct and completion.res >= 0:
            chosen = request.file_index in (abi.IORING_FILE_INDEX_ALLOC, -1)
            self.tables.empty(completion.res + 1 if chosen else request.file_index)

    def _fill(self, request: Request, data: bytes, flags: int) -> tuple[int, int]:
        if not request.flags & _SELECT:
            raise ValueError("this request names no buffer group; give res instead of data")
        if not self._has_buffer(request.buf_index):
            return -errno.ENOBUFS, 0
        buffers = self.groups[request.buf_index]
        size = min(len(data), buffers.size, request.length or buffers.size)
        if not size:
            return 0, flags
        bid = buffers.fetch()
        buffers.views[bid][:size] = data[:size]
        return size, flags | _F_BUFFER | bid << 16

    def _has_buffer(self, group: int) -> bool:
        return group in self.groups and bool(self.groups[group].available)

    def _run_work(self) -> None:
        while self._backlog and len(self._posted) < self.cq_entries:
            self._posted.append(self._backlog.popleft())
        for _ in range(min(_WORK_AN_ENTER, len(self._work))):
            self._post(self._work.pop(0))

    def _post(self, completion: Completion) -> None:
        request = completion.request
        if not self._backlog and len(self._posted) < self.cq_entries:
            self._posted.append(completion)
        else:
            if request in self.running and request.multishot:
                # A multishot ends when the queue overflows; its last completion still carries its result.
                completion.flags &= ~_F_MORE
                self.running.remove(request)
            self._backlog.append(completion)
        if request is not None and not completion.flags & _F_MORE:
            self._end_chain(request, completion.res)


def _signed(number: int) -> int:
    number &= 0xFFFFFFFF
    return number - (1 << 32) if number >> 31 else number
