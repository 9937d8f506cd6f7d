"""The interface that the kernel's ring and the scripted one share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["RingLike"]


class RingLike(Protocol):
    """A ring as a Trio run uses it: `KernelRing`, or `uring.kernel.scripted.ScriptedRing`."""

    fd: int
    out: memoryview[int]
    put: Callable[..., int]
    put_now: Callable[..., int]
    queue: Callable[[Any], int]
    queue_pair: Callable[[Any, Any], int]
    queue_at: Callable[..., int]
    cycle: Callable[[float], int]
    poll: Callable[[], int]
    idle: Callable[[], int]
    flush: Callable[[int], int]
    unqueue: Callable[[int], int]
    end_unsent: Callable[[int], int]

    def now(self) -> float:
        """The monotonic clock, by which the kernel's timers go, in seconds."""
        ...

    @property
    def template(self) -> Callable[..., Any]: ...
    def counters(self) -> dict[str, int]: ...
    def close(self) -> None: ...

    @property
    def inflight(self) -> int: ...
    @property
    def pending(self) -> int: ...
    @property
    def eager(self) -> bool: ...
    @eager.setter
    def eager(self, value: bool) -> None: ...
