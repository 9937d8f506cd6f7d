"""Doing nothing, closing, time, cancelling, readiness, waiting, provided buffers.

Each method queues the request of the same name in `uring.ops`, where it is described.
Common to all: ``ctx`` as in `uring.Ring.submit`; ``sqe_flags`` are ``IOSQE_*`` bits, ``personality``
registered credentials. Returns the context that completions carry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ... import ops
from ...abi import FUTEX2_SIZE_U32, FUTEX_BITSET_MATCH_ANY
from ..life import RingCore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...contexts.context import SQEContext
    from ...ops.base import Fd

__all__ = ["ControlMethods"]

FUTEX_U32 = int(FUTEX2_SIZE_U32)


class ControlMethods(RingCore):
    """Doing nothing, closing, time, cancelling, readiness, waiting, provided buffers."""

    def nop(
        self,
        ctx: int | None,
        *,
        result: int | None = None,
        file: Fd | None = None,
        fixed_file: bool = False,
        buf_index: int | None = None,
        task_work: bool = False,
        extra: tuple[int, int] | None = None,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """Does nothing."""
        return self._request(
            ctx,
            ops.nop(
                result=result,
                file=file,
                fixed_file=fixed_file,
                buf_index=buf_index,
                task_work=task_work,
                extra=extra,
            ),
            sqe_flags,
            personality,
        )

    def nop128(
        self, ctx: int | None, *, result: int | None = None, sqe_flags: int = 0, personality: int = 0
    ) -> SQEContext:
        """`nop` in a 128-byte entry (Linux 6.19)."""
        return self._request(ctx, ops.nop128(result=result), sqe_flags, personality)

    def close(self, ctx: int | None, fd: Fd, *, sqe_flags: int = 0, personality: int = 0) -> SQEContext:
        """Closes a descriptor (Linux 5.6)."""
        return self._request(ctx, ops.close(fd), sqe_flags, personality)

    def close_direct(
        self, ctx: int | None, file_index: int, *, sqe_flags: int = 0, personality: int = 0
    ) -> SQEContext:
        """Empties a slot of the registered files (Linux 5.15)."""
        return self._request(ctx, ops.close_direct(file_index), sqe_flags, personality)

    def timeout(
        self,
        ctx: int | None,
        duration: float,
        *,
        count: int = 0,
        absolute: bool = False,
        boottime: bool = False,
        realtime: bool = False,
        etime_success: bool = False,
        multishot: bool = False,
        timeout_flags: int = 0,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """Completes with ``-ETIME`` when the time has come (Linux 5.4)."""
        return self._request(
            ctx,
            ops.timeout(
                duration,
                count=count,
                absolute=absolute,
                boottime=boottime,
                realtime=realtime,
                etime_success=etime_success,
                multishot=multishot,
                timeout_flags=timeout_flags,
            ),
            sqe_flags,
            personality,
        )

    def timeout_remove(
        self, ctx: int | None, user_data: int, *, sqe_flags: int = 0, personality: int = 0
    ) -> SQEContext:
        """Ends a timeout that was submitted under ``user_data`` (Linux 5.5)."""
        return self._request(ctx, ops.timeout_remove(user_data), sqe_flags, personality)

    def timeout_update(
        self,
        ctx: int | None,
        user_data: int,
        duration: float,
        *,
        absolute: bool = False,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """Gives a timeout a new time, on the clock it has (Linux 5.11)."""
        return self._request(
            ctx, ops.timeout_update(user_data, duration, absolute=absolute), sqe_flags, personality
        )

    def link_timeout(
        self,
        ctx: int | None,
        duration: float,
        *,
        absolute: bool = False,
        boottime: bool = False,
        realtime: bool = False,
        timeout_flags: int = 0,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """Cancels the operation before it, which carries ``IOSQE_IO_LINK``, when the time has come (Linux
        5.5)."""
        return self._request(
            ctx,
            ops.link_timeout(
                duration, absolute=absolute, boottime=boottime, realtime=realtime, timeout_flags=timeout_flags
            ),
            sqe_flags,
            personality,
        )

    def link_timeout_update(
        self,
        ctx: int | None,
        user_data: int,
        duration: float,
        *,
        absolute: bool = False,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """Gives a linked timeout that is armed a new time (Linux 5.11)."""
        return self._request(
            ctx, ops.link_timeout_update(user_data, duration, absolute=absolute), sqe_flags, personality
        )

    def async_cancel(
        self, ctx: int | None, user_data: int, *, all: bool = False, sqe_flags: int = 0, personality: int = 0
    ) -> SQEContext:
        """Cancels what was submitted under ``user_data`` (Linux 5.5), with ``all`` every match (5.19)."""
        return self._request(ctx, ops.async_cancel(user_data, all=all), sqe_flags, personality)

    def async_cancel_fd(
        self,
        ctx: int | None,
        fd: Fd,
        *,
        all: bool = True,
        fixed_file: bool = False,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """Cancels what works on a descriptor (Linux 5.19), with ``fixed_file`` on a registered file."""
        return self._request(
            ctx, ops.async_cancel_fd(fd, all=all, fixed_file=fixed_file), sqe_flags, personality
        )

    def async_cancel_opcode(
        self, ctx: int | None, opcode: int, *, all: bool = False, sqe_flags: int = 0, personality: int = 0
    ) -> SQEContext:
        """Cancels an operation of this kind (Linux 6.6), with ``all`` every one."""
        return self._request(ctx, ops.async_cancel_opcode(opcode, all=all), sqe_flags, personality)

    def async_cancel_any(self, ctx: int | None, *, sqe_flags: int = 0, personality: int = 0) -> SQEContext:
        """Cancels one operation, whichever (Linux 5.19)."""
        return self._request(ctx, ops.async_cancel_any(), sqe_flags, personality)

    def async_cancel_all(self, ctx: int | None, *, sqe_flags: int = 0, personality: int = 0) -> SQEContext:
        """Cancels everything in flight (Linux 5.19)."""
        return self._request(ctx, ops.async_cancel_all(), sqe_flags, personality)

    def async_cancel_matching(
        self,
        ctx: int | None,
        *,
        user_data: int | None = None,
        fd: Fd | None = None,
        opcode: int | None = None,
        all: bool = False,
        fixed_file: bool = False,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """Cancels what matches each of the criteria given (Linux 6.6)."""
        return self._request(
            ctx,
            ops.async_cancel_matching(
                user_data=user_data, fd=fd, opcode=opcode, all=all, fixed_file=fixed_file
            ),
            sqe_flags,
            personality,
        )

    def poll_add(
        self,
        ctx: int | None,
        fd: Fd,
        mask: int,
        *,
        multishot: bool = False,
        fixed_file: bool = False,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """Waits until poll(2) reports one of ``mask``."""
        return self._request(
            ctx, ops.poll_add(fd, mask, multishot=multishot, fixed_file=fixed_file), sqe_flags, personality
        )

    def poll_add_multishot(
        self,
        ctx: int | None,
        fd: Fd,
        mask: int,
        *,
        fixed_file: bool = False,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """`poll_add` that goes on until cancelled (Linux 5.13)."""
        return self._request(
            ctx, ops.poll_add_multishot(fd, mask, fixed_file=fixed_file), sqe_flags, personality
        )

    def poll_add_level(
        self,
        ctx: int | None,
        fd: Fd,
        mask: int,
        *,
        fixed_file: bool = False,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """`poll_add`, level-triggered."""
        return self._request(ctx, ops.poll_add_level(fd, mask, fixed_file=fixed_file), sqe_flags, personality)

    def poll_add_multishot_level(
        self,
        ctx: int | None,
        fd: Fd,
        mask: int,
        *,
        fixed_file: bool = False,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """`poll_add_multishot`, level-triggered."""
        return self._request(
            ctx, ops.poll_add_multishot_level(fd, mask, fixed_file=fixed_file), sqe_flags, personality
        )

    def poll_remove(
        self, ctx: int | None, user_data: int, *, sqe_flags: int = 0, personality: int = 0
    ) -> SQEContext:
        """Ends the poll that was submitted under ``user_data`` (Linux 5.1)."""
        return self._request(ctx, ops.poll_remove(user_data), sqe_flags, personality)

    def poll_update(
        self,
        ctx: int | None,
        user_data: int,
        *,
        mask: int | None = None,
        new_user_data: int | None = None,
        multishot: bool = False,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """Changes a poll in flight (Linux 5.13)."""
        return self._request(
            ctx,
            ops.poll_update(user_data, mask=mask, new_user_data=new_user_data, multishot=multishot),
            sqe_flags,
            personality,
        )

    def epoll_ctl(
        self,
        ctx: int | None,
        epfd: Fd,
        op: int,
        fd: Fd,
        events: int = 0,
        data: int | None = None,
        *,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """Changes what an epoll set watches (Linux 5.6)."""
        return self._request(ctx, ops.epoll_ctl(epfd, op, fd, events, data), sqe_flags, personality)

    def epoll_wait(
        self,
        ctx: int | None,
        epfd: Fd,
        max_events: int = 64,
        *,
        fixed_file: bool = False,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """Waits for events of an epoll set (Linux 6.15)."""
        return self._request(
            ctx, ops.epoll_wait(epfd, max_events, fixed_file=fixed_file), sqe_flags, personality
        )

    def futex_wait(
        self,
        ctx: int | None,
        word: Any,
        value: int,
        *,
        mask: int = FUTEX_BITSET_MATCH_ANY,
        flags: int = FUTEX_U32,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """Waits while the 32-bit word at the start of a buffer has this value (Linux 6.7)."""
        return self._request(ctx, ops.futex_wait(word, value, mask=mask, flags=flags), sqe_flags, personality)

    def futex_wake(
        self,
        ctx: int | None,
        word: Any,
        n: int = 1,
        *,
        mask: int = FUTEX_BITSET_MATCH_ANY,
        flags: int = FUTEX_U32,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """Wakes up to ``n`` waiters of a word (Linux 6.7)."""
        return self._request(ctx, ops.futex_wake(word, n, mask=mask, flags=flags), sqe_flags, personality)

    def futex_waitv(
        self,
        ctx: int | None,
        waiters: Sequence[tuple[Any, int]],
        *,
        flags: int = FUTEX_U32,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """Waits on several (word, value) pairs at once (Linux 6.7)."""
        return self._request(ctx, ops.futex_waitv(waiters, flags=flags), sqe_flags, personality)

    def waitid(
        self, ctx: int | None, idtype: int, id: int, options: int, *, sqe_flags: int = 0, personality: int = 0
    ) -> SQEContext:
        """Waits for a child to change state (Linux 6.7)."""
        return self._request(ctx, ops.waitid(idtype, id, options), sqe_flags, personality)

    def provide_buffers(
        self,
        ctx: int | None,
        memory: Any,
        size: int,
        buffer_group: int,
        *,
        first_id: int = 0,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """Gives writable memory to a group as buffers of ``size`` bytes, numbered from ``first_id`` on
        (Linux 5.7)."""
        return self._request(
            ctx, ops.provide_buffers(memory, size, buffer_group, first_id=first_id), sqe_flags, personality
        )

    def remove_buffers(
        self, ctx: int | None, buffer_group: int, count: int, *, sqe_flags: int = 0, personality: int = 0
    ) -> SQEContext:
        """Takes up to ``count`` buffers back from a group (Linux 5.7)."""
        return self._request(ctx, ops.remove_buffers(buffer_group, count), sqe_flags, personality)
