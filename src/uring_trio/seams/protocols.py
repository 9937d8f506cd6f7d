"""The interface of an operation to the waits, and of its run to the operation.

This package imports nothing from the rooms above it: these protocols say what it uses of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from uring.kernel.ringlike import RingLike
    from uring.kernel.volley import Volley

__all__ = ["Canceller", "Request", "Run"]


class Canceller(Protocol):
    """The part that asks the kernel to cancel; see `uring_trio.core.cancels`."""

    def cancel(self, op: Any, /) -> None:
        """Asks for the end of an operation, whose completion comes all the same."""

    def defer(self, op: Any, /) -> None:
        """As `cancel`, once the timer that is linked to the operation had its chance."""

    def cancel_volley(self, volley: Volley, /) -> None:
        """As `cancel`, for all members of a volley that are in flight."""


class Run(Protocol):
    """A ring run; see `uring_trio.core.engine`."""

    ring: RingLike
    buffers: Any
    runner: Any
    reach: float | None
    clock_offset: float
    deadline_data: int

    @property
    def cancels(self) -> Canceller:
        """Where to ask for cancels."""

    def check_usable(self) -> None:
        """Raises what makes the ring refuse entries for good."""

    def release(self, op: Any, /) -> None:
        """Takes an operation back into the table."""

    def wake(self, op: Any, /) -> None:
        """Resumes the task that is parked on an operation."""


class Request(Protocol):
    """A slot of the in-flight table; see `uring_trio.core.operation`."""

    user_data: int
    pins: Any
    res: int
    flags: int
    task: Any
    runner: Any
    reach: float | None
    until: float
    park: Any
    template: Any
    interrupt: Callable[[], Any] | None
    retired: bool
    queue: Callable[[Any], int]
    put: Callable[..., int]
    put_now: Callable[..., int]
    now: bool

    @property
    def engine(self) -> Run:
        """The run that it is of."""

    def refuse(self, runner: Any) -> None:
        """Raises the reason why it cannot be used now."""

    def kernel_deadline(self, when: float) -> Any:
        """The entry of a linked timeout."""
