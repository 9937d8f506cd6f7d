"""One payload to many sockets: plain sends, or zero-copy sends where these are cheaper.

A zero-copy send costs a second completion and saves a copy. The more targets share a payload, the smaller is
the size from which that is cheaper. Each row is (fewer targets than this, smallest payload sent zero-copy).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from .. import ops
from ..contexts.context import SQEContext
from ..ops.base import check_fd, check_int
from ..options import REGISTER_BUFFERS_MOST
from .registration import Registrations

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Buffer

    from ..kernel.op import Op
    from ..ops.base import Fd

__all__ = ["MULTICAST_THRESHOLDS", "MULTICAST_ZERO_COPY_THRESHOLDS", "MulticastMethods"]

MULTICAST_THRESHOLDS: Final[tuple[tuple[float, int], ...]] = (
    (8, 8192),
    (64, 4096),
    (512, 3072),
    (4096, 2048),
    (math.inf, 1536),
)
"""For `multicast`: zero-copy only where it is clearly cheaper."""

MULTICAST_ZERO_COPY_THRESHOLDS: Final[tuple[tuple[float, int], ...]] = (
    (4, 1536),
    (16, 1024),
    (64, 512),
    (256, 128),
    (math.inf, 0),
)
"""For `multicast_zero_copy`: wherever it may be cheaper."""


class MulticastMethods(Registrations):
    """Sends of one payload to many."""

    def multicast(
        self,
        ctx: SQEContext | None,
        targets: Sequence[Fd],
        data: Buffer | None = None,
        *,
        buf_index: int = -1,
        offset: int = 0,
        n: int | None = None,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> list[SQEContext]:
        """Queues a send of the same bytes to each target.

        From the size in `MULTICAST_THRESHOLDS` on it is zero-copy, which takes TCP or UDP sockets and
        completes twice.

        Args:
            ctx: a direct context, or None; its descriptor becomes each target's.
            targets: the sockets, descriptors or objects with ``fileno()``.
            data: the payload, unless ``buf_index`` names a registered buffer.
            buf_index: the registered buffer with the payload, from 0 on; -1 for none.
            offset: the first byte to send, from 0 on.
            n: how many bytes; None: up to the end.
            sqe_flags: bits of ``IOSQE_*`` for each entry, 0 to 255.
            personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

        Returns:
            The contexts, one a target.

        Raises:
            TypeError, ValueError: no payload or two, a part outside it, a context that is not direct.
            PoolExhausted: the submission queue is full; sends to earlier targets stay queued.
        """
        return self._multicast(
            ctx, targets, data, buf_index, offset, n, MULTICAST_THRESHOLDS, sqe_flags, personality
        )

    def multicast_zero_copy(
        self,
        ctx: SQEContext | None,
        targets: Sequence[Fd],
        buf_index: int,
        *,
        offset: int = 0,
        n: int | None = None,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> list[SQEContext]:
        """As `multicast` from a registered buffer, with `MULTICAST_ZERO_COPY_THRESHOLDS`.

        Args:
            ctx: a direct context, or None; its descriptor becomes each target's.
            targets: the sockets, descriptors or objects with ``fileno()``.
            buf_index: the registered buffer with the payload, from 0 on.
            offset: the first byte to send, from 0 on.
            n: how many bytes; None: up to the end.
            sqe_flags: bits of ``IOSQE_*`` for each entry, 0 to 255.
            personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

        Returns:
            The contexts, one a target.

        Raises:
            TypeError, ValueError, PoolExhausted: as `multicast`.
        """
        return self._multicast(
            ctx, targets, None, buf_index, offset, n, MULTICAST_ZERO_COPY_THRESHOLDS, sqe_flags, personality
        )

    def _multicast(
        self,
        ctx: SQEContext | None,
        targets: Sequence[Fd],
        data: Buffer | None,
        buf_index: int,
        offset: int,
        n: int | None,
        thresholds: tuple[tuple[float, int], ...],
        sqe_flags: int,
        personality: int,
    ) -> list[SQEContext]:
        self._check_usable()
        if ctx is not None and (not isinstance(ctx, SQEContext) or not ctx.is_direct):
            raise ValueError("multicast takes a direct context: each target has its own descriptor in it")
        fds = _descriptors(targets)
        check_int("buf_index", buf_index, -1, REGISTER_BUFFERS_MOST - 1)
        if (data is None) == (buf_index < 0):
            raise TypeError("multicast takes either data or the index of a registered buffer")
        whole = memoryview(data).cast("B") if data is not None else self.registered_buffer(buf_index)
        check_int("offset", offset, 0, whole.nbytes)
        size = whole.nbytes - offset
        part = whole[offset : offset + (size if n is None else check_int("n", n, 0, size))]
        zero_copy = part.nbytes >= smallest_zero_copy(len(fds), thresholds)
        contexts = []
        for target in fds:
            op: Op
            if not zero_copy:
                op = ops.send(target, part)
            elif buf_index >= 0:
                op = ops.send_zc(target, part, buf_index=buf_index)
            else:
                op = ops.send_zc(target, part)
            op = op.with_options(sqe_flags, personality)
            contexts.append(self.submit(op, None if ctx is None else ctx.with_fd(op.fd)))
        return contexts


def _descriptors(targets: Any) -> list[int]:
    """The descriptors of the targets, checked before the first send is queued."""
    if isinstance(targets, (str, bytes, bytearray, memoryview)) or not hasattr(targets, "__len__"):
        raise TypeError(f"targets are a sequence of sockets or descriptors, not {type(targets).__name__}")
    return [check_fd(target) for target in targets]


def smallest_zero_copy(targets: int, thresholds: tuple[tuple[float, int], ...]) -> int:
    """The smallest payload to send without copying to so many targets."""
    return next(size for fewer, size in thresholds if targets < fewer)
