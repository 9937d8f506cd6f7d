"""Receiving and sending.

Each method queues the request of the same name in `uring.ops`, where it is described.
Common to all: ``ctx`` as in `uring.Ring.submit`; ``sqe_flags`` are ``IOSQE_*`` bits, ``personality``
registered credentials. Returns the context that completions carry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ... import ops
from ...abi import IORING_FILE_INDEX_ALLOC
from ..life import RingCore

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ...contexts.context import SQEContext
    from ...kernel.messages import Message
    from ...ops.base import Fd

__all__ = ["TransferMethods"]


class TransferMethods(RingCore):
    """Receiving and sending."""

    def recv(
        self,
        ctx: int | None,
        fd: Fd,
        buffer: Any = None,
        *,
        flags: int = 0,
        n: int | None = None,
        buffer_group: int | None = None,
        read_buffer_size: int = 0,
        poll_first: bool = False,
        fixed_file: bool = False,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """Receives into a writable buffer, or into one that the kernel chooses from a buffer group (Linux
        5.6)."""
        return self._request(
            ctx,
            ops.recv(
                fd,
                buffer,
                flags=flags,
                n=n,
                buffer_group=buffer_group,
                read_buffer_size=read_buffer_size,
                poll_first=poll_first,
                fixed_file=fixed_file,
            ),
            sqe_flags,
            personality,
        )

    def submit_recv_multishot(
        self,
        ctx: int | None,
        fd: Fd,
        buffer_group: int,
        *,
        flags: int = 0,
        read_buffer_size: int = 0,
        total: int = 0,
        poll_first: bool = False,
        fixed_file: bool = False,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """Receives into buffers of a group until the stream ends (Linux 6.0)."""
        return self._request(
            ctx,
            ops.recv_multishot(
                fd,
                buffer_group,
                flags=flags,
                read_buffer_size=read_buffer_size,
                total=total,
                poll_first=poll_first,
                fixed_file=fixed_file,
            ),
            sqe_flags,
            personality,
        )

    def recv_bundle(
        self,
        ctx: int | None,
        fd: Fd,
        buffer_group: int,
        *,
        flags: int = 0,
        read_buffer_size: int = 0,
        poll_first: bool = False,
        fixed_file: bool = False,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """Receives into as many buffers of a group as there is data for (Linux 6.10)."""
        return self._request(
            ctx,
            ops.recv_bundle(
                fd,
                buffer_group,
                flags=flags,
                read_buffer_size=read_buffer_size,
                poll_first=poll_first,
                fixed_file=fixed_file,
            ),
            sqe_flags,
            personality,
        )

    def submit_recv_bundle_multishot(
        self,
        ctx: int | None,
        fd: Fd,
        buffer_group: int,
        *,
        flags: int = 0,
        poll_first: bool = False,
        fixed_file: bool = False,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """`recv_bundle` until the stream ends (Linux 6.10)."""
        return self._request(
            ctx,
            ops.recv_bundle_multishot(
                fd, buffer_group, flags=flags, poll_first=poll_first, fixed_file=fixed_file
            ),
            sqe_flags,
            personality,
        )

    def recv_zero_copy(
        self,
        ctx: int | None,
        fd: Fd,
        zcrx_ifq_index: int,
        n: int = 0,
        *,
        poll_first: bool = False,
        fixed_file: bool = False,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """Receives where the network card put the data, until the stream ends (Linux 6.15)."""
        return self._request(
            ctx,
            ops.recv_zero_copy(fd, zcrx_ifq_index, n, poll_first=poll_first, fixed_file=fixed_file),
            sqe_flags,
            personality,
        )

    def recvmsg(
        self,
        ctx: int | None,
        fd: Fd,
        message: Message,
        *,
        flags: int = 0,
        buffer_group: int | None = None,
        poll_first: bool = False,
        fixed_file: bool = False,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """Receives into a `Message` made with writable buffers (Linux 5.3)."""
        return self._request(
            ctx,
            ops.recvmsg(
                fd,
                message,
                flags=flags,
                buffer_group=buffer_group,
                poll_first=poll_first,
                fixed_file=fixed_file,
            ),
            sqe_flags,
            personality,
        )

    def submit_recvmsg_multishot(
        self,
        ctx: int | None,
        fd: Fd,
        message: Message,
        buffer_group: int,
        *,
        flags: int = 0,
        poll_first: bool = False,
        fixed_file: bool = False,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """Receives messages into buffers of a group until cancelled (Linux 6.0)."""
        return self._request(
            ctx,
            ops.recvmsg_multishot(
                fd, message, buffer_group, flags=flags, poll_first=poll_first, fixed_file=fixed_file
            ),
            sqe_flags,
            personality,
        )

    def send(
        self,
        ctx: int | None,
        fd: Fd,
        data: Any,
        *,
        flags: int = 0,
        n: int | None = None,
        poll_first: bool = False,
        fixed_file: bool = False,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """Sends bytes (Linux 5.6)."""
        return self._request(
            ctx,
            ops.send(fd, data, flags=flags, n=n, poll_first=poll_first, fixed_file=fixed_file),
            sqe_flags,
            personality,
        )

    def sendto(
        self,
        ctx: int | None,
        fd: Fd,
        data: Any,
        family: int,
        address: Any,
        *,
        flags: int = 0,
        n: int | None = None,
        poll_first: bool = False,
        fixed_file: bool = False,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """`send` to an address (Linux 6.0)."""
        return self._request(
            ctx,
            ops.sendto(
                fd, data, family, address, flags=flags, n=n, poll_first=poll_first, fixed_file=fixed_file
            ),
            sqe_flags,
            personality,
        )

    def sendv(
        self,
        ctx: int | None,
        fd: Fd,
        buffers: Sequence[Any],
        *,
        flags: int = 0,
        poll_first: bool = False,
        fixed_file: bool = False,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """Sends buffers one after the other (Linux 6.17)."""
        return self._request(
            ctx,
            ops.sendv(fd, buffers, flags=flags, poll_first=poll_first, fixed_file=fixed_file),
            sqe_flags,
            personality,
        )

    def send_bundle(
        self,
        ctx: int | None,
        fd: Fd,
        buffer_group: int,
        *,
        flags: int = 0,
        write_buffer_size: int = 0,
        poll_first: bool = False,
        fixed_file: bool = False,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """Sends the buffers that are in a group, in its order (Linux 6.10)."""
        return self._request(
            ctx,
            ops.send_bundle(
                fd,
                buffer_group,
                flags=flags,
                write_buffer_size=write_buffer_size,
                poll_first=poll_first,
                fixed_file=fixed_file,
            ),
            sqe_flags,
            personality,
        )

    def send_zc(
        self,
        ctx: int | None,
        fd: Fd,
        data: Any,
        *,
        flags: int = 0,
        n: int | None = None,
        buf_index: int | None = None,
        report_usage: bool = False,
        poll_first: bool = False,
        fixed_file: bool = False,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """Sends bytes without copying them where the network can (Linux 6.0)."""
        return self._request(
            ctx,
            ops.send_zc(
                fd,
                data,
                flags=flags,
                n=n,
                buf_index=buf_index,
                report_usage=report_usage,
                poll_first=poll_first,
                fixed_file=fixed_file,
            ),
            sqe_flags,
            personality,
        )

    def sendto_zc(
        self,
        ctx: int | None,
        fd: Fd,
        data: Any,
        family: int,
        address: Any,
        *,
        flags: int = 0,
        n: int | None = None,
        buf_index: int | None = None,
        report_usage: bool = False,
        poll_first: bool = False,
        fixed_file: bool = False,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """`send_zc` to an address (Linux 6.0)."""
        return self._request(
            ctx,
            ops.sendto_zc(
                fd,
                data,
                family,
                address,
                flags=flags,
                n=n,
                buf_index=buf_index,
                report_usage=report_usage,
                poll_first=poll_first,
                fixed_file=fixed_file,
            ),
            sqe_flags,
            personality,
        )

    def sendmsg(
        self,
        ctx: int | None,
        fd: Fd,
        buffers: Sequence[Any],
        ancillary: Iterable[tuple[int, int, Any]] = (),
        *,
        flags: int = 0,
        name: bytes = b"",
        poll_first: bool = False,
        fixed_file: bool = False,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """Sends buffers with control messages, to ``name`` (a ``sockaddr``, see `kernel.addresses`) if given
        (Linux 5.3)."""
        return self._request(
            ctx,
            ops.sendmsg(
                fd, buffers, ancillary, flags=flags, name=name, poll_first=poll_first, fixed_file=fixed_file
            ),
            sqe_flags,
            personality,
        )

    def sendmsg_zc(
        self,
        ctx: int | None,
        fd: Fd,
        buffers: Sequence[Any],
        ancillary: Iterable[tuple[int, int, Any]] = (),
        *,
        flags: int = 0,
        name: bytes = b"",
        buf_index: int | None = None,
        report_usage: bool = False,
        poll_first: bool = False,
        fixed_file: bool = False,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """`sendmsg` without copying the buffers (Linux 6.1)."""
        return self._request(
            ctx,
            ops.sendmsg_zc(
                fd,
                buffers,
                ancillary,
                flags=flags,
                name=name,
                buf_index=buf_index,
                report_usage=report_usage,
                poll_first=poll_first,
                fixed_file=fixed_file,
            ),
            sqe_flags,
            personality,
        )

    def msg_ring(
        self,
        ctx: int | None,
        ring_fd: Fd,
        user_data: int,
        result: int = 0,
        *,
        cqe_flags: int | None = None,
        fixed_file: bool = False,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """Posts a completion with this ``user_data`` and result on another ring (Linux 5.18)."""
        return self._request(
            ctx,
            ops.msg_ring(ring_fd, user_data, result, cqe_flags=cqe_flags, fixed_file=fixed_file),
            sqe_flags,
            personality,
        )

    def msg_ring_fd(
        self,
        ctx: int | None,
        ring_fd: Fd,
        source_index: int,
        *,
        file_index: int = IORING_FILE_INDEX_ALLOC,
        user_data: int = 0,
        skip_cqe: bool = False,
        fixed_file: bool = False,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """Puts a registered file of this ring into a slot of another's, or into a free one (Linux 6.0)."""
        return self._request(
            ctx,
            ops.msg_ring_fd(
                ring_fd,
                source_index,
                file_index=file_index,
                user_data=user_data,
                skip_cqe=skip_cqe,
                fixed_file=fixed_file,
            ),
            sqe_flags,
            personality,
        )
