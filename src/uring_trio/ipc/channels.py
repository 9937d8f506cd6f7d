"""Between runs and processes: a channel between ring runs in different threads, futexes on shared memory.

A value crosses threads in a deque that both sides share. Only the wake-up crosses the kernel: one ring posts
a completion on the other (``MSG_RING``). So a waiting run needs no pipe and no thread.

Invariants
  - The lock guards everything except the deque's operations; it is never held across a yield.
  - Each side holds a duplicate of the descriptor of the other's ring: a late wake-up can reach a ring whose
    run is over, but no other file.
  - A waiting side sets its flag before it checks the deque a last time: no wake-up is lost.
  - An end is closed when its run ends, and when it is garbage.
"""

from __future__ import annotations

import errno
import os
import threading
from collections import deque
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import trio

from uring import abi, ops

from .. import seams
from ..core.engine import FOREIGN, current
from ..core.perform import perform
from ..core.restrictions import check

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..core.engine import Engine
    from ..core.operation import Operation

__all__ = ["RingReceiveChannel", "RingSendChannel", "futex_wait", "futex_wake", "open_ring_channel"]

T = TypeVar("T")
_MSG_RING = int(abi.IORING_OP_MSG_RING)


def _open(capacity: int = 1) -> tuple[RingSendChannel[Any], RingReceiveChannel[Any]]:
    """A bounded channel between two ring runs: (sender, receiver), one task of one run on each side.

    The ends may be made anywhere and carried to the thread that uses them; each belongs to the first run
    that uses it, and is closed when that run is over, or when it is garbage. ``open_ring_channel[Job](8)``
    tells type checkers what they are.

    Args:
        capacity: how many values may wait in between, 1 or more.

    Raises:
        ValueError: a capacity below 1.
    """
    if isinstance(capacity, bool) or not isinstance(capacity, int):
        raise TypeError(f"capacity is an int, not {type(capacity).__name__}")
    if capacity < 1:
        raise ValueError(f"capacity is at least 1, not {capacity}")
    shared: _Shared = _Shared(capacity)
    return RingSendChannel(shared), RingReceiveChannel(shared)


if TYPE_CHECKING:

    class open_ring_channel(tuple["RingSendChannel[T]", "RingReceiveChannel[T]"]):
        """A function with a type argument, in a form that type checkers accept: see `_open`."""

        def __new__(cls, capacity: int = 1) -> tuple[RingSendChannel[T], RingReceiveChannel[T]]:  # type: ignore[misc]
            ...

        def __init__(self, capacity: int = 1) -> None: ...

else:

    class _WithType:
        """A function that takes a type in brackets, and ignores it."""

        def __init__(self, fn):
            update_wrapper(self, fn)
            self.__name__ = self.__qualname__ = "open_ring_channel"

        def __call__(self, capacity=1):
            return self.__wrapped__(capacity)

        def __getitem__(self, type_):
            return self

    open_ring_channel = _WithType(_open)


async def futex_wait(word: Any, value: int) -> bool:
    """Waits while the 32-bit word at the start of a shared, writable buffer has this value (Linux 6.7).

    Returns True when woken, False if the word had another value already. Cancelling it leaves the word alone.

    Args:
        word: a shared, writable buffer of 4 bytes or more, such as an `mmap.mmap`.
        value: what the word is compared with, 0 to 2**32 - 1.

    Raises:
        TypeError, ValueError: no such buffer or value.
        OSError: the kernel's errno.
        RuntimeError: outside a ring run.
    """
    try:
        await perform(ops.futex_wait(word, value))
    except BlockingIOError:
        return False
    return True


async def futex_wake(word: Any, n: int = 1) -> int:
    """Wakes up to ``n`` waiters of a word, in any process; returns how many (Linux 6.7).

    A checkpoint. A cancelled call has woken no waiter, or ends first and returns its result.

    Args:
        word: the buffer that the waiters named.
        n: how many waiters at most, 1 or more.

    Raises:
        TypeError, ValueError: no such buffer or number.
        OSError: the kernel's errno.
        RuntimeError: outside a ring run.
    """
    woken: int = await perform(ops.futex_wake(word, n))
    return woken


class _Shared:
    """The state that both ends share."""

    def __init__(self, capacity: int) -> None:
        self.lock: threading.RLock = threading.RLock()  # an end may be garbage at any moment
        self.capacity: int = capacity
        self.values: deque[Any] = deque()
        self.sender: _End = _End()
        self.receiver: _End = _End()

    def end_sender(self) -> None:
        _close(self, self.sender, self.receiver)

    def end_receiver(self) -> None:
        _close(self, self.receiver, self.sender)


class _End:
    """One side: the run it belongs to, and the task of that run that waits."""

    def __init__(self) -> None:
        self.closed: bool = False
        self.waiting: bool = False
        self._engine: Engine | None = None
        self._slot: Operation | None = None
        self._task: Any = None
        self._park: Any = None
        self._ring_fd = -1  # a descriptor of this side's ring, for the other side to post to

    def enter(self, over: Callable[[], None]) -> None:
        """Binds this side to the current run, once; ``over`` is called when that run ends."""
        engine = current()
        if self._engine not in (None, engine):
            raise RuntimeError("this end of the channel belongs to another run")
        if self.closed:
            raise trio.ClosedResourceError("this end of the channel is closed")
        if self._engine is None:
            check(engine, _MSG_RING, -errno.EACCES)  # either side wakes the other
            self._engine = engine
            self._slot = engine.acquire("ring_channel")
            self._slot.handler = self._on_message
            self._park = seams.park_message(self._abort)
            self._ring_fd = os.dup(engine.ring.fd)
            engine.on_close[self] = over

    async def wait(self) -> None:
        """Parks until the other side wakes this one."""
        if self._task is not None:
            raise trio.BusyResourceError("another task is using this end of the channel")
        self._task = seams.current_task()
        try:
            await seams.wait(self._park)
        finally:
            self.waiting = False

    def wake(self, other: _End) -> None:
        """Wakes this side from ``other``'s run, or from outside any run."""
        engine, slot = self._engine, self._slot
        if engine is None or slot is None or engine.closed:
            return
        here = seams.manager_here()
        if other._engine is not None and other._engine.closed:
            engine.run_soon(self._resume)  # the other run is over, and its ring posts nothing
        elif here is engine:
            self._resume()
        elif other._engine is not None and here is other._engine and other._slot is not None:
            other._post(self._ring_fd, slot.user_data | FOREIGN)
        else:
            engine.run_soon(self._resume)

    def _post(self, ring_fd: int, user_data: int) -> None:
        engine = self._engine
        assert engine is not None
        messenger = engine.acquire("msg_ring", ring_fd)
        fields = (_MSG_RING, 0, ring_fd, user_data, 0, 0, 0, 0, 0, 0)

        def sent(op: Operation, res: int, flags: int) -> None:
            if res == -errno.EOVERFLOW:
                engine.submit(op, fields)  # its completion queue was full: once more
            else:
                engine.release(op)

        messenger.handler = sent
        # At once: the other side must not wait for the end of this tick.
        engine.submit(messenger, fields)

    def release(self) -> None:
        if self._engine is not None:
            self._engine.on_close.pop(self, None)
            if self._slot is not None and not self._engine.closed:
                self._engine.release(self._slot)
        self._slot = None
        if self._ring_fd >= 0:
            os.close(self._ring_fd)
            self._ring_fd = -1

    def _on_message(self, op: Operation, res: int, flags: int) -> None:
        self._resume()

    def _resume(self) -> None:
        task, self._task = self._task, None
        if task is not None and self._engine is not None and not self._engine.closed:
            self._engine.reschedule(task)

    def _abort(self, raise_cancel: object) -> seams.Abort:
        self._task = None
        return seams.Abort.SUCCEEDED


class RingSendChannel(trio.abc.SendChannel[T], Generic[T]):
    """The sending end of `open_ring_channel`."""

    def __init__(self, shared: _Shared) -> None:
        self._shared = shared

    async def send(self, value: T) -> None:
        """Passes a value to the other side, waiting while the channel is full. A cancelled send has passed
        nothing.

        Args:
            value: any object; the other side gets the same one.

        Raises:
            trio.BrokenResourceError: the receiving end is closed, or its run is over.
            trio.ClosedResourceError: this end is closed.
            trio.BusyResourceError: another task is sending.
        """
        shared = self._shared
        await trio.lowlevel.checkpoint_if_cancelled()
        shared.sender.enter(shared.end_sender)
        while True:
            with shared.lock:
                if shared.sender.closed:
                    raise trio.ClosedResourceError("this end of the channel is closed")
                if shared.receiver.closed:
                    raise trio.BrokenResourceError("the other end of the channel is closed")
                if len(shared.values) < shared.capacity:
                    shared.values.append(value)
                    if shared.receiver.waiting:
                        shared.receiver.wake(shared.sender)
                    break
                shared.sender.waiting = True
            await shared.sender.wait()
        await trio.lowlevel.cancel_shielded_checkpoint()

    def close(self) -> None:
        """Ends the channel: the other side takes what is in it, then sees `trio.EndOfChannel`. Idempotent."""
        self._shared.end_sender()

    def __del__(self) -> None:
        self._shared.end_sender()

    async def aclose(self) -> None:
        """As `close`, and a checkpoint."""
        self.close()
        await trio.lowlevel.checkpoint()


class RingReceiveChannel(trio.abc.ReceiveChannel[T], Generic[T]):
    """The receiving end of `open_ring_channel`; iterating it receives until the end."""

    def __init__(self, shared: _Shared) -> None:
        self._shared = shared

    async def receive(self) -> T:
        """The next value; waits for one. A cancelled receive has taken nothing.

        Raises:
            trio.EndOfChannel: the sending end is closed or its run is over, and everything was received.
            trio.ClosedResourceError: this end is closed.
            trio.BusyResourceError: another task is receiving.
        """
        shared = self._shared
        await trio.lowlevel.checkpoint_if_cancelled()
        shared.receiver.enter(shared.end_receiver)
        while True:
            with shared.lock:
                if shared.receiver.closed:
                    raise trio.ClosedResourceError("this end of the channel is closed")
                if shared.values:
                    value: T = shared.values.popleft()
                    if shared.sender.waiting:
                        shared.sender.wake(shared.receiver)
                    break
                if shared.sender.closed:
                    raise trio.EndOfChannel
                shared.receiver.waiting = True
            await shared.receiver.wait()
        await trio.lowlevel.cancel_shielded_checkpoint()
        return value

    def close(self) -> None:
        """Ends the channel: the other side's sends fail from now on. Idempotent."""
        self._shared.end_receiver()

    def __del__(self) -> None:
        self._shared.end_receiver()

    async def aclose(self) -> None:
        """As `close`, and a checkpoint."""
        self.close()
        await trio.lowlevel.checkpoint()


def _close(shared: _Shared, mine: _End, other: _End) -> None:
    with shared.lock:
        if mine.closed:
            return
        mine.closed = True
        mine._resume()
        other.wake(mine)
        if other.closed:
            # No side posts any more.
            mine.release()
            other.release()
