"""A ring that submits nothing: the machines' side of one, and completions as a test scripts them."""

from __future__ import annotations

from types import SimpleNamespace

from uring import ContextPools, CQEView, PoolExhausted, SQEContext, abi
from uring.contexts.context import find_slot
from uring.machines.multishot import MultishotMethods

MORE = int(abi.IORING_CQE_F_MORE)
NOTIF = int(abi.IORING_CQE_F_NOTIF)
BUFFER = int(abi.IORING_CQE_F_BUFFER)


class FakeRing:
    """Keeps what is submitted in ``queued``, as (name, context); refuses while ``refuse`` is true."""

    subscribe = MultishotMethods.subscribe
    accept_multishot = MultishotMethods.accept_multishot
    recv_multishot = MultishotMethods.recv_multishot
    _target = staticmethod(MultishotMethods._target)

    def __init__(self, slots=4):
        self.pools = ContextPools(slots)
        self.options = SimpleNamespace(cqe32=True, cqe_mixed=False)
        self.queued = []
        self.refuse = False
        self.closed = False
        self.flushes = 0
        self.buffers = {}
        self.given_back = []

    def submit(self, op, ctx=None):
        if self.refuse:
            raise PoolExhausted("the submission queue is full")
        if ctx is not None:
            slot = find_slot(ctx)
            assert slot is not None
            assert not slot.in_flight
            slot.op, slot.fields, slot.in_flight = op, op.fields, True
        self.queued.append((op.name, ctx if ctx is not None else op.fields[4]))
        return ctx

    def submit_extended(self, ctx):
        return self.submit(find_slot(ctx).op, ctx)

    def flush(self):
        self.flushes += 1

    def buf_ring(self, group):
        return SimpleNamespace(put=lambda bid: self.given_back.append((group, bid)))

    def registered_buffer(self, index):
        return memoryview(self.buffers[index])

    def names(self):
        return [name for name, _ in self.queued]

    def complete(self, ctx, res, flags=0, big=0):
        """A completion, as `wait` hands it out."""
        slot = find_slot(ctx)
        if slot is not None and not flags & MORE:
            assert slot.in_flight
            slot.in_flight, slot.op = False, None
        return CQEView((int(SQEContext(ctx)), res, flags, big, 0))
