"""Files with a state of their own, which the standard library's file gets at the end: when a program asks for
that one, or when this one is garbage.
"""

from __future__ import annotations

import os
import sys
import warnings
from abc import abstractmethod
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import trio

from .base import RingFile

if TYPE_CHECKING:
    from .descriptor import Descriptor
    from .stdlib_file import Stock

__all__ = ["StatefulFile"]

_TELLS_ERRORS = sys.version_info >= (3, 13)
"""Whether finalizers of the standard library's files pass errors of their close to `sys.unraisablehook`."""


class StatefulFile(RingFile):
    """A file that reads ahead or writes behind. ``_keeps``: it still has that state and the descriptor."""

    _keeps = False

    def __init__(self, file: Descriptor, wrapped: Any, stock: Stock) -> None:
        super().__init__(file, wrapped)
        self._stock = stock

    @abstractmethod
    def _convey(self, *, final: bool) -> Any:
        """Moves the state into the standard library's file, and returns that. ``final``: for the finalizer.
        Nothing reads any more, and there may be no descriptor free.

        Raises:
            OSError: the descriptor was closed by other code.
        """

    def _hand_over(self) -> None:
        if self._keeps:
            file = self._file
            if file.busy and not file.resting:
                raise trio.BusyResourceError("another task's call of this file is under way")
            self._convey(final=False)

    def _take_to_threads(self) -> None:
        self._convey(final=False)

    def _close_descriptor(self) -> None:
        self._keeps = False
        with suppress(OSError):  # it has nothing to write, and where a seek is refused `_flush` has said so
            self._wrapped.close()
        if self._stock.closefd:
            os.close(self._stock.fd)

    def __del__(self) -> None:
        if not self._keeps:
            return
        try:
            # It goes when this frame has gone: its warning is about the line that dropped this file.
            unclosed = self._convey(final=True)  # noqa: F841
        except OSError:
            if self._stock.closefd:
                warnings.warn(f"unclosed file {self._wrapped!r}", ResourceWarning, stacklevel=2)
                if _TELLS_ERRORS:
                    raise
