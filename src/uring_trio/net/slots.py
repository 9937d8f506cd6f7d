"""Direct descriptors: the slots of the ring's table of files.

The first few slots are chosen here, for listeners; the kernel chooses from the rest.
"""

from __future__ import annotations

import errno
import resource
from functools import partial
from typing import TYPE_CHECKING, Any

from uring import abi, ops
from uring.abi.layouts import FILE_INDEX_RANGE, RSRC_REGISTER
from uring.kernel.memory import zeroed

if TYPE_CHECKING:
    from ..core.engine import Engine
    from ..core.operation import Operation

__all__ = ["Slots"]

_LISTENERS = 16
"""Slots that are chosen here; half of the table if it is smaller than twice as many."""


class Slots:
    """The table of a run, made for its first direct listener. It has no more slots than the process may have
    descriptors then: the kernel holds both to ``RLIMIT_NOFILE``.

    Raises:
        OSError: the kernel refused it (``ENOMEM``), or that limit leaves no room for a listener and a
            connection (``EMFILE``).
    """

    def __init__(self, engine: Engine) -> None:
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        count = engine.options.direct_slots
        if limit != resource.RLIM_INFINITY:
            count = min(count, limit)
        if count < 2:
            raise OSError(
                errno.EMFILE,
                f"direct descriptors need a table of two slots at least, and RLIMIT_NOFILE is {limit}",
            )
        self._listeners = min(_LISTENERS, count // 2)
        table = zeroed(RSRC_REGISTER.size)
        RSRC_REGISTER.pack_into(table.view, 0, count, abi.IORING_RSRC_REGISTER_SPARSE, 0, 0)
        what = "register a table of direct descriptors"
        ring: Any = engine.ring
        register = ring.register
        register(int(abi.IORING_REGISTER_FILES2), table.address, RSRC_REGISTER.size, what)
        chosen = zeroed(FILE_INDEX_RANGE.size)
        FILE_INDEX_RANGE.pack_into(chosen.view, 0, self._listeners, count - self._listeners)
        register(int(abi.IORING_REGISTER_FILE_ALLOC_RANGE), chosen.address, 0, what)
        self._engine = engine
        self._free = list(range(self._listeners))

    @classmethod
    def of(cls, engine: Engine) -> Slots:
        """The table of that run."""
        if engine.slots is None:
            engine.slots = cls(engine)
        slots: Slots = engine.slots
        return slots

    def reserve(self) -> int:
        """A slot for a listener.

        Raises:
            OSError: ``ENFILE``, there are too many.
        """
        if not self._free:
            raise OSError(errno.ENFILE, f"this run has at most {self._listeners} direct listeners")
        return self._free.pop()

    def empty(self, slot: int) -> None:
        """Closes what is in a slot; nothing may be in flight on it. That is submitted before this returns,
        unless the kernel takes no entry now."""
        engine = self._engine
        if engine.closed:
            return
        op = engine.acquire("close_direct")
        op.handler = _released
        # A slot that is chosen here is chosen again once its close is queued in front of what fills it.
        then = partial(self._free.append, slot) if slot < self._listeners else None
        engine.submit(op, ops.close_direct(slot).fields, then)


def _released(op: Operation, res: int, flags: int) -> None:
    op.engine.release(op)
