"""The checks of a request before it is queued: support, targets, links, skipped completions, drains.

Invariants
  - A request that cannot be sent is refused before anything is queued.
  - A chain of linked requests reaches the kernel in one piece: the queue is never flushed inside one.
  - A value that names the target of another request belongs to the target alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import abi
from ..contexts.context import CTX_MODE_RESERVED, SQEContext, find_slot
from ..contexts.requests import is_request
from ..errors import NotSupported, PoolExhausted
from ..opcodes import by_number
from .state import NO_THREAD, TARGETING, RingState

if TYPE_CHECKING:
    from ..contexts.context import IndirectSQE
    from ..kernel.op import Op

__all__ = ["GUARDED", "Checks", "is_context", "no_context"]

_LINKS = int(abi.IOSQE_IO_LINK | abi.IOSQE_IO_HARDLINK)
_SKIP = int(abi.IOSQE_CQE_SKIP_SUCCESS)
_DRAIN = int(abi.IOSQE_IO_DRAIN)
GUARDED = (
    "a timeout is linked to the request under this value, or a poll was renamed to it: "
    "use another one until it ends"
)
_HALF_SILENT = (
    "a chain is silent on success as a whole or not at all: where a silent request fails, the kernel posts "
    "no completion of those behind it, so that nothing would say when they have ended"
)
NOT_SILENT = (
    "a request silent on success has no completion that would end it: give a direct context, which needs none"
)
_OTHERS_BETWEEN = "with multi_issuers a chain is one submit_linked: other threads' requests come between"
_OP_ASYNC_CANCEL = int(abi.IORING_OP_ASYNC_CANCEL)
_OP_LINK_TIMEOUT = int(abi.IORING_OP_LINK_TIMEOUT)
_OP_MSG_RING = int(abi.IORING_OP_MSG_RING)
_OP_POLL_REMOVE = int(abi.IORING_OP_POLL_REMOVE)
_OP_RECV_ZC = int(abi.IORING_OP_RECV_ZC)
_WIDE_OPS = frozenset({int(abi.IORING_OP_NOP128), int(abi.IORING_OP_URING_CMD128)})
_UPDATE_USER_DATA = int(abi.IORING_POLL_UPDATE_USER_DATA)
_ZERO_COPY = frozenset({int(abi.IORING_OP_SEND_ZC), int(abi.IORING_OP_SENDMSG_ZC)})
_NOT_BY_ONE_VALUE = int(
    abi.IORING_ASYNC_CANCEL_ALL
    | abi.IORING_ASYNC_CANCEL_FD
    | abi.IORING_ASYNC_CANCEL_ANY
    | abi.IORING_ASYNC_CANCEL_OP
)


class Checks(RingState):
    """The checks of requests, alone and in chains."""

    def _slot_for(self, ctx: int) -> IndirectSQE:
        """The slot of an indirect or extended context, free to submit under."""
        mode = ctx >> 62
        if mode not in (1, 2):
            if mode == 3:
                raise ValueError("a context with both top bits set is reserved for messages of other rings")
            raise ValueError(f"a context has 64 bits: {ctx} is out of range")
        slot = find_slot(ctx)
        if slot is None:
            raise LookupError("the context's slot is not borrowed, or was given back")
        if slot.in_flight:
            raise RuntimeError("an operation is in flight under this slot already")
        return slot

    def _check_special(self, op: Op, ctx: int, slot: IndirectSQE | None, linked: bool) -> tuple[Op, int]:
        """The checks that most requests need not: support, targets, links, skipped completions."""
        opcode, flags = op.fields[0], op.fields[1]
        if not self._plain[opcode]:
            self._check_supported(opcode)
        if not linked:
            self._check_alone(op, opcode, ctx)
        if flags & _SKIP:
            if is_request(ctx) and not self.options.notify_succeed:
                raise ValueError(NOT_SILENT)
            if self.options.notify_succeed:
                op = _without_flags(op, _SKIP)
                flags = op.fields[1]
            elif slot is not None:
                raise ValueError(
                    "a request silent on success would keep its slot for ever: use a direct context"
                )
            elif op.pins is not None:
                raise ValueError(f"{op.name} silent on success: nothing would say when its memory is free")
            else:
                ctx = int.__new__(SQEContext, ctx | CTX_MODE_RESERVED)
        self._check_drain(opcode, flags)
        silent = flags & _SKIP != 0
        if self._chain and silent is not self._silent:
            raise ValueError(_HALF_SILENT)
        if flags & _LINKS and self._owner == NO_THREAD and not linked:
            raise ValueError(_OTHERS_BETWEEN)
        if opcode == _OP_LINK_TIMEOUT:
            self._guard_target()
        elif opcode == _OP_MSG_RING and op.fields[3] >> 62 != 3:
            op = _as_message(op)
        if op.command:
            op.pack()
        if not linked:
            self._keep_chain_whole(flags)
        within = self._chain
        self._chain = bool(flags & _LINKS)
        if flags & _LINKS:
            self._chained = ctx
            self._silent = silent
            self._chain_zero_copy = opcode in _ZERO_COPY or (within and self._chain_zero_copy)
        return op, ctx

    def _check_supported(self, opcode: int) -> None:
        if opcode >= len(self._plain) or self._plain[opcode] is None:
            try:
                row = by_number(opcode)
            except LookupError:
                raise NotSupported(f"opcode {opcode}") from None
            raise NotSupported(f"IORING_OP_{row.name}", f"Linux {row.since}")
        if opcode in _WIDE_OPS and not self.options.sqe128:
            raise NotSupported(
                f"{by_number(opcode).name} on a ring with 64-byte entries", "Options(sqe128=True)"
            )
        if opcode == _OP_RECV_ZC and not (self.options.cqe32 or self.options.cqe_mixed):
            raise NotSupported("RECV_ZC on a ring with 16-byte completions", "Options(cqe32=True)")

    def _check_alone(self, op: Op, opcode: int, ctx: int) -> None:
        """The checks of a request by itself, whether it is linked or not."""
        if ctx in self._guarded:
            raise ValueError(GUARDED)
        if opcode in TARGETING:
            self._check_target(op, opcode)
        elif opcode == _OP_MSG_RING and op.fields[3] >> 62 in (1, 2):
            raise ValueError(f"a message to another ring has 62 bits, not {op.fields[3]:#x}")
        if op.command:
            self._kernel.check_command(op.command)

    def _check_drain(self, opcode: int, flags: int) -> None:
        """Refuses zero-copy sends with ``IO_DRAIN``: on Linux 6.18 one that comes after a request with that
        flag, even after its end, waits for itself for ever and cannot be cancelled."""
        drains = flags & _DRAIN != 0
        # The flag of one request holds for its whole chain.
        if (opcode in _ZERO_COPY and (drains or self._drained)) or (
            drains and self._chain and self._chain_zero_copy
        ):
            raise ValueError("a ring that has used IOSQE_IO_DRAIN takes no zero-copy sends: use another ring")
        self._drained |= drains

    def _check_target(self, op: Op, opcode: int) -> None:
        """Refuses to name a request by a value that several in flight share."""
        if opcode == _OP_LINK_TIMEOUT:
            if not self._chain:
                raise ValueError("link_timeout stands behind a request with IOSQE_IO_LINK: nothing is linked")
            target = self._chained
        elif opcode == _OP_ASYNC_CANCEL and op.fields[6] & _NOT_BY_ONE_VALUE:
            return
        else:
            target = op.fields[4]
        count = self._kernel.count(target)
        if count > 1:
            raise ValueError(
                f"{op.name} names its target by a value that {count} operations in flight share: "
                "use indirect or extended contexts, or cancel all of them"
            )
        if opcode == _OP_POLL_REMOVE and op.fields[5] & _UPDATE_USER_DATA:
            self._rename(target, op.fields[3])

    def _guard_target(self) -> None:
        """Reserves the value of the request that a timeout is linked to, while it is in flight."""
        if self._kernel.count(self._chained) == 1:
            self._guarded.add(self._chained)

    def _rename(self, target: int, value: int) -> None:
        """Records that a poll in flight will complete under another value.

        It is counted under its own value until it ends under either.
        """
        own = self._renamed.get(target, target)
        if value == own or self._renamed.get(value) == own or not self._kernel.count(own):
            return
        if value >> 62:
            raise ValueError(f"a poll is renamed to a direct context, not to {value:#x}")
        if self._kernel.count(value) or value in self._guarded:
            raise ValueError(f"a poll is renamed to a value that nothing else has: {value:#x} is in flight")
        self._renamed[value] = own
        self._guarded.add(value)

    def _check_chain(self, chain: list[Op], contexts: list[int]) -> None:
        """Checks a whole chain before its first request is queued."""
        before: int | None = None
        if len({op.fields[1] & _SKIP for op in chain}) > 1 and not self.options.notify_succeed:
            raise ValueError(_HALF_SILENT)
        if self._owner == NO_THREAD and chain[-1].fields[1] & _LINKS:
            raise ValueError(_OTHERS_BETWEEN)
        for op, ctx in zip(chain, contexts, strict=True):
            opcode = op.fields[0]
            if not is_context(ctx):
                raise no_context(ctx)
            if self._plain[opcode] is not True:
                self._check_supported(opcode)
            if opcode != _OP_LINK_TIMEOUT:
                self._check_alone(op, opcode, ctx)
            if opcode in _ZERO_COPY and any(each.fields[1] & _DRAIN for each in chain):
                self._check_drain(opcode, _DRAIN)
            if is_request(ctx):
                if op.fields[1] & _SKIP and not self.options.notify_succeed:
                    raise ValueError(NOT_SILENT)
            elif ctx >> 62:
                self._slot_for(ctx)
                if contexts.count(ctx) > 1:
                    raise ValueError("a slot may be in a chain only once")
            if (
                op.fields[1] & _SKIP
                and not self.options.notify_succeed
                and (ctx >> 62 or op.pins is not None)
            ):
                raise ValueError(
                    f"{op.name} cannot be silent on success: its slot or memory would be kept for ever"
                )
            if opcode == _OP_LINK_TIMEOUT:
                if before is None:
                    raise ValueError("link_timeout stands behind the request that it bounds")
                if self._kernel.count(before) or contexts.count(before) > 1:
                    raise ValueError("link_timeout names its target by a value that others share: use a slot")
            before = ctx

    def _keep_chain_whole(self, flags: int) -> None:
        """Flushes before a chain starts, so that none is needed inside it."""
        space = self._kernel.space()
        if self._chain:
            if space < 1:
                # The next request submits the queue first. With SQPOLL the kernel's thread may do that.
                self._chain = self.options.sqpoll
                raise PoolExhausted("the chain does not fit into the submission queue: use submit_linked")
        elif flags & _LINKS and space < max(2, self._kernel.sq_entries // 2):
            self._kernel.flush(0)

    def _make_room(self, n: int) -> None:
        if self._kernel.space() < n:
            self._kernel.flush(0)
            if self._kernel.space() < n:
                raise PoolExhausted(f"the submission queue has no room for {n} requests")


def is_context(ctx: object) -> bool:
    return isinstance(ctx, int) and not isinstance(ctx, bool)


def no_context(ctx: object) -> TypeError:
    return TypeError(f"a context is an SQEContext or an int of 64 bits, not {type(ctx).__name__}")


def _as_message(op: Op) -> Op:
    """The same message in reserved mode, which no completion of the other ring's requests has."""
    marked = op.with_flags(0)
    fields = op.fields
    marked.fields = (*fields[:3], fields[3] | CTX_MODE_RESERVED, *fields[4:])
    return marked


def _without_flags(op: Op, flags: int) -> Op:
    opcode, old, *rest = op.fields
    bare = op.with_flags(0)
    bare.fields = (opcode, old & ~flags, *rest)  # type: ignore[assignment]
    return bare
