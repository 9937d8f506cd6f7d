"""Sockets: make, bind, listen, accept, connect, shut down, and their commands.

Each method queues the request of the same name in `uring.ops`, where it is described.
Common to all: ``ctx`` as in `uring.Ring.submit`; ``sqe_flags`` are ``IOSQE_*`` bits, ``personality``
registered credentials. Returns the context that completions carry.
"""

from __future__ import annotations

from socket import SOCK_CLOEXEC
from typing import TYPE_CHECKING, Any

from ... import ops
from ...abi import IORING_FILE_INDEX_ALLOC
from ..life import RingCore

if TYPE_CHECKING:
    from ...contexts.context import SQEContext
    from ...ops.base import Fd

__all__ = ["SocketMethods"]


class SocketMethods(RingCore):
    """Sockets: make, bind, listen, accept, connect, shut down, and their commands."""

    def tcp4_socket(self, ctx: int | None, *, sqe_flags: int = 0, personality: int = 0) -> SQEContext:
        """A TCP socket over IPv4 (Linux 5.19)."""
        return self._request(ctx, ops.tcp4_socket(), sqe_flags, personality)

    def tcp4_socket_direct(
        self,
        ctx: int | None,
        *,
        file_index: int = IORING_FILE_INDEX_ALLOC,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """A TCP socket over IPv4, among the registered files (Linux 5.19)."""
        return self._request(ctx, ops.tcp4_socket_direct(file_index=file_index), sqe_flags, personality)

    def tcp6_socket(self, ctx: int | None, *, sqe_flags: int = 0, personality: int = 0) -> SQEContext:
        """A TCP socket over IPv6 (Linux 5.19)."""
        return self._request(ctx, ops.tcp6_socket(), sqe_flags, personality)

    def tcp6_socket_direct(
        self,
        ctx: int | None,
        *,
        file_index: int = IORING_FILE_INDEX_ALLOC,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """A TCP socket over IPv6, among the registered files (Linux 5.19)."""
        return self._request(ctx, ops.tcp6_socket_direct(file_index=file_index), sqe_flags, personality)

    def udp4_socket(self, ctx: int | None, *, sqe_flags: int = 0, personality: int = 0) -> SQEContext:
        """A UDP socket over IPv4 (Linux 5.19)."""
        return self._request(ctx, ops.udp4_socket(), sqe_flags, personality)

    def udp4_socket_direct(
        self,
        ctx: int | None,
        *,
        file_index: int = IORING_FILE_INDEX_ALLOC,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """A UDP socket over IPv4, among the registered files (Linux 5.19)."""
        return self._request(ctx, ops.udp4_socket_direct(file_index=file_index), sqe_flags, personality)

    def udp6_socket(self, ctx: int | None, *, sqe_flags: int = 0, personality: int = 0) -> SQEContext:
        """A UDP socket over IPv6 (Linux 5.19)."""
        return self._request(ctx, ops.udp6_socket(), sqe_flags, personality)

    def udp6_socket_direct(
        self,
        ctx: int | None,
        *,
        file_index: int = IORING_FILE_INDEX_ALLOC,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """A UDP socket over IPv6, among the registered files (Linux 5.19)."""
        return self._request(ctx, ops.udp6_socket_direct(file_index=file_index), sqe_flags, personality)

    def udplite4_socket(self, ctx: int | None, *, sqe_flags: int = 0, personality: int = 0) -> SQEContext:
        """A UDP-Lite socket over IPv4 (Linux 5.19)."""
        return self._request(ctx, ops.udplite4_socket(), sqe_flags, personality)

    def udplite4_socket_direct(
        self,
        ctx: int | None,
        *,
        file_index: int = IORING_FILE_INDEX_ALLOC,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """A UDP-Lite socket over IPv4, among the registered files (Linux 5.19)."""
        return self._request(ctx, ops.udplite4_socket_direct(file_index=file_index), sqe_flags, personality)

    def udplite6_socket(self, ctx: int | None, *, sqe_flags: int = 0, personality: int = 0) -> SQEContext:
        """A UDP-Lite socket over IPv6 (Linux 5.19)."""
        return self._request(ctx, ops.udplite6_socket(), sqe_flags, personality)

    def udplite6_socket_direct(
        self,
        ctx: int | None,
        *,
        file_index: int = IORING_FILE_INDEX_ALLOC,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """A UDP-Lite socket over IPv6, among the registered files (Linux 5.19)."""
        return self._request(ctx, ops.udplite6_socket_direct(file_index=file_index), sqe_flags, personality)

    def sctp4_socket(self, ctx: int | None, *, sqe_flags: int = 0, personality: int = 0) -> SQEContext:
        """An SCTP socket over IPv4, one connection each (Linux 5.19)."""
        return self._request(ctx, ops.sctp4_socket(), sqe_flags, personality)

    def sctp4_socket_direct(
        self,
        ctx: int | None,
        *,
        file_index: int = IORING_FILE_INDEX_ALLOC,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """An SCTP socket over IPv4, one connection each, among the registered files (Linux 5.19)."""
        return self._request(ctx, ops.sctp4_socket_direct(file_index=file_index), sqe_flags, personality)

    def sctp6_socket(self, ctx: int | None, *, sqe_flags: int = 0, personality: int = 0) -> SQEContext:
        """An SCTP socket over IPv6, one connection each (Linux 5.19)."""
        return self._request(ctx, ops.sctp6_socket(), sqe_flags, personality)

    def sctp6_socket_direct(
        self,
        ctx: int | None,
        *,
        file_index: int = IORING_FILE_INDEX_ALLOC,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """An SCTP socket over IPv6, one connection each, among the registered files (Linux 5.19)."""
        return self._request(ctx, ops.sctp6_socket_direct(file_index=file_index), sqe_flags, personality)

    def unix_socket(self, ctx: int | None, *, sqe_flags: int = 0, personality: int = 0) -> SQEContext:
        """A Unix stream socket (Linux 5.19)."""
        return self._request(ctx, ops.unix_socket(), sqe_flags, personality)

    def unix_socket_direct(
        self,
        ctx: int | None,
        *,
        file_index: int = IORING_FILE_INDEX_ALLOC,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """A Unix stream socket, among the registered files (Linux 5.19)."""
        return self._request(ctx, ops.unix_socket_direct(file_index=file_index), sqe_flags, personality)

    def socket(
        self,
        ctx: int | None,
        family: int,
        type: int,
        protocol: int = 0,
        *,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """Creates a socket (Linux 5.19)."""
        return self._request(ctx, ops.socket(family, type, protocol), sqe_flags, personality)

    def socket_raw(
        self,
        ctx: int | None,
        family: int,
        type: int,
        protocol: int = 0,
        *,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """`socket` with exactly these numbers."""
        return self._request(ctx, ops.socket_raw(family, type, protocol), sqe_flags, personality)

    def socket_direct(
        self,
        ctx: int | None,
        family: int,
        type: int,
        protocol: int = 0,
        *,
        file_index: int = IORING_FILE_INDEX_ALLOC,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """`socket` into a slot of the registered files, or into a free one (Linux 5.19)."""
        return self._request(
            ctx, ops.socket_direct(family, type, protocol, file_index=file_index), sqe_flags, personality
        )

    def bind(
        self,
        ctx: int | None,
        fd: Fd,
        family: int,
        address: Any,
        *,
        fixed_file: bool = False,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """Binds a socket to an address (Linux 6.11)."""
        return self._request(
            ctx, ops.bind(fd, family, address, fixed_file=fixed_file), sqe_flags, personality
        )

    def listen(
        self,
        ctx: int | None,
        fd: Fd,
        backlog: int = 128,
        *,
        fixed_file: bool = False,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """Makes a socket listen (Linux 6.11)."""
        return self._request(ctx, ops.listen(fd, backlog, fixed_file=fixed_file), sqe_flags, personality)

    def connect(
        self,
        ctx: int | None,
        fd: Fd,
        family: int,
        address: Any,
        *,
        fixed_file: bool = False,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """Connects a socket (Linux 5.5)."""
        return self._request(
            ctx, ops.connect(fd, family, address, fixed_file=fixed_file), sqe_flags, personality
        )

    def accept(
        self,
        ctx: int | None,
        fd: Fd,
        *,
        flags: int = SOCK_CLOEXEC,
        with_address: bool = False,
        dontwait: bool = False,
        poll_first: bool = False,
        fixed_file: bool = False,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """Accepts one connection (Linux 5.5)."""
        return self._request(
            ctx,
            ops.accept(
                fd,
                flags=flags,
                with_address=with_address,
                dontwait=dontwait,
                poll_first=poll_first,
                fixed_file=fixed_file,
            ),
            sqe_flags,
            personality,
        )

    def accept_direct(
        self,
        ctx: int | None,
        fd: Fd,
        *,
        file_index: int = IORING_FILE_INDEX_ALLOC,
        flags: int = 0,
        dontwait: bool = False,
        poll_first: bool = False,
        fixed_file: bool = False,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """`accept` into a slot of the registered files, or into a free one (Linux 5.15)."""
        return self._request(
            ctx,
            ops.accept_direct(
                fd,
                file_index=file_index,
                flags=flags,
                dontwait=dontwait,
                poll_first=poll_first,
                fixed_file=fixed_file,
            ),
            sqe_flags,
            personality,
        )

    def submit_accept_multishot(
        self,
        ctx: int | None,
        fd: Fd,
        *,
        flags: int = SOCK_CLOEXEC,
        poll_first: bool = False,
        fixed_file: bool = False,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """Accepts connections until cancelled (Linux 5.19)."""
        return self._request(
            ctx,
            ops.accept_multishot(fd, flags=flags, poll_first=poll_first, fixed_file=fixed_file),
            sqe_flags,
            personality,
        )

    def submit_accept_direct_multishot(
        self,
        ctx: int | None,
        fd: Fd,
        *,
        file_index: int = IORING_FILE_INDEX_ALLOC,
        flags: int = 0,
        poll_first: bool = False,
        fixed_file: bool = False,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """`accept_multishot` into free slots of the registered files (Linux 5.19)."""
        return self._request(
            ctx,
            ops.accept_direct_multishot(
                fd, file_index=file_index, flags=flags, poll_first=poll_first, fixed_file=fixed_file
            ),
            sqe_flags,
            personality,
        )

    def shutdown(
        self,
        ctx: int | None,
        fd: Fd,
        how: int,
        *,
        fixed_file: bool = False,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """Shuts a connection down in one direction or both (Linux 5.11)."""
        return self._request(ctx, ops.shutdown(fd, how, fixed_file=fixed_file), sqe_flags, personality)

    def uring_cmd(
        self,
        ctx: int | None,
        fd: Fd,
        cmd_op: int,
        data: Any = b"",
        *,
        cmd_flags: int = 0,
        buf_index: int = 0,
        fixed_file: bool = False,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """A command of the file's driver (Linux 5.19)."""
        return self._request(
            ctx,
            ops.uring_cmd(fd, cmd_op, data, cmd_flags=cmd_flags, buf_index=buf_index, fixed_file=fixed_file),
            sqe_flags,
            personality,
        )

    def uring_cmd128(
        self,
        ctx: int | None,
        fd: Fd,
        cmd_op: int,
        data: Any = b"",
        *,
        cmd_flags: int = 0,
        buf_index: int = 0,
        fixed_file: bool = False,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """`uring_cmd` in a 128-byte entry (Linux 6.19)."""
        return self._request(
            ctx,
            ops.uring_cmd128(
                fd, cmd_op, data, cmd_flags=cmd_flags, buf_index=buf_index, fixed_file=fixed_file
            ),
            sqe_flags,
            personality,
        )

    def siocinq(
        self, ctx: int | None, fd: Fd, *, fixed_file: bool = False, sqe_flags: int = 0, personality: int = 0
    ) -> SQEContext:
        """How many bytes a socket has to read (Linux 6.6)."""
        return self._request(ctx, ops.siocinq(fd, fixed_file=fixed_file), sqe_flags, personality)

    def siocoutq(
        self, ctx: int | None, fd: Fd, *, fixed_file: bool = False, sqe_flags: int = 0, personality: int = 0
    ) -> SQEContext:
        """How many bytes a socket has not sent yet, or not seen acknowledged (Linux 6.6)."""
        return self._request(ctx, ops.siocoutq(fd, fixed_file=fixed_file), sqe_flags, personality)

    def getsockopt(
        self,
        ctx: int | None,
        fd: Fd,
        level: int,
        optname: int,
        size: int | None = None,
        *,
        fixed_file: bool = False,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """Reads a socket option (Linux 6.7)."""
        return self._request(
            ctx, ops.getsockopt(fd, level, optname, size, fixed_file=fixed_file), sqe_flags, personality
        )

    def setsockopt(
        self,
        ctx: int | None,
        fd: Fd,
        level: int,
        optname: int,
        value: Any,
        *,
        fixed_file: bool = False,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """Sets a socket option to an int or to bytes (Linux 6.7)."""
        return self._request(
            ctx, ops.setsockopt(fd, level, optname, value, fixed_file=fixed_file), sqe_flags, personality
        )

    def getsockname(
        self,
        ctx: int | None,
        fd: Fd,
        *,
        peer: bool = False,
        fixed_file: bool = False,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """A socket's own address, or its peer's (Linux 6.19)."""
        return self._request(
            ctx, ops.getsockname(fd, peer=peer, fixed_file=fixed_file), sqe_flags, personality
        )

    def tx_timestamp(
        self, ctx: int | None, fd: Fd, *, fixed_file: bool = False, sqe_flags: int = 0, personality: int = 0
    ) -> SQEContext:
        """When packets of a socket with ``SO_TIMESTAMPING`` were sent, until cancelled (Linux 6.17)."""
        return self._request(ctx, ops.tx_timestamp(fd, fixed_file=fixed_file), sqe_flags, personality)
