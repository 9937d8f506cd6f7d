"""The steps of a subscription, and its handler."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..contexts.views import Completion

__all__ = ["MultishotAction", "MultishotHandler", "MultishotStep"]


class MultishotAction(IntEnum):
    """The answer of a handler to a step."""

    CONTINUE = 0
    STOP = 1
    """Cancel; without effect after the last step."""


@dataclass(frozen=True, slots=True)
class MultishotStep:
    """One completion of a subscription.

    Attributes:
        cqe: the completion; its buffer is valid until the handler returns.
        error: the exception for a negative result, else None.
        cancelled: whether the result is ``-ECANCELED``.
    """

    cqe: Completion
    error: OSError | None
    cancelled: bool

    @property
    def has_more(self) -> bool:
        """Whether more completions follow."""
        return self.cqe.has_more

    @property
    def final(self) -> bool:
        """Whether this is the last completion."""
        return not self.cqe.has_more


class MultishotHandler:
    """The callbacks of a subscription. By default an error stops it, and other methods do nothing."""

    def on_multishot_step(self, step: MultishotStep) -> MultishotAction:
        """A completion came.

        Args:
            step: the completion.

        Returns:
            ``STOP`` cancels the operation, unless it has ended.
        """
        return MultishotAction.CONTINUE if step.error is None else MultishotAction.STOP

    def on_multishot_stop(self, error: OSError | None, cancelled: bool) -> None:
        """The last completion was seen; at most once.

        Args:
            error: the one it ended with, if any.
            cancelled: whether it ended by a cancel.
        """

    @classmethod
    def from_callbacks(
        cls,
        on_step: Callable[[MultishotStep], MultishotAction] | None = None,
        on_stop: Callable[[OSError | None, bool], None] | None = None,
    ) -> MultishotHandler:
        """Makes a handler of functions.

        Args:
            on_step: as `on_multishot_step`; None does as this class.
            on_stop: as `on_multishot_stop`; None does as this class.
        """
        return _Callbacks(on_step, on_stop)


class _Callbacks(MultishotHandler):
    def __init__(
        self,
        on_step: Callable[[MultishotStep], MultishotAction] | None,
        on_stop: Callable[[OSError | None, bool], None] | None,
    ) -> None:
        self._step = on_step
        self._stop = on_stop

    def on_multishot_step(self, step: MultishotStep) -> MultishotAction:
        return super().on_multishot_step(step) if self._step is None else self._step(step)

    def on_multishot_stop(self, error: OSError | None, cancelled: bool) -> None:
        if self._stop is not None:
            self._stop(error, cancelled)
