"""The 36 shapes of an extended slot: a callable, up to seven references and numbers, and bytes.

The 64 bytes hold, in this order, the callable and the references (8 bytes each, always zero: a list holds the
objects), the numbers, and the remaining bytes. Views of different shapes over one slot share them.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Generic, TypeVar, cast, overload

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Ctx"]

R = TypeVar("R")

_MOST = 7
_VALUE = struct.Struct("=q")


class _Ref(Generic[R]):
    """A reference of the slot by its place; place 0 is the callable. None before it was set."""

    __slots__ = ("place",)

    def __init__(self, place: int) -> None:
        self.place: int = place

    @overload
    def __get__(self, view: None, owner: type[Ctx]) -> _Ref[R]: ...
    @overload
    def __get__(self, view: Ctx, owner: type[Ctx]) -> R | None: ...
    def __get__(self, view: Ctx | None, owner: type[Ctx]) -> _Ref[R] | R | None:
        if view is None:
            return self
        return cast("R | None", view._sidecar[self._checked(view)])

    def __set__(self, view: Ctx, value: R | None) -> None:
        view._sidecar[self._checked(view)] = value

    def _checked(self, view: Ctx) -> int:
        if self.place > view.refs:
            raise AttributeError(f"this shape has {view.refs} references, there is no ref{self.place}")
        return self.place


class _Val:
    """A signed 64-bit number of the slot by its place, from 1."""

    __slots__ = ("place",)

    def __init__(self, place: int) -> None:
        self.place: int = place

    @overload
    def __get__(self, view: None, owner: type[Ctx]) -> _Val: ...
    @overload
    def __get__(self, view: Ctx, owner: type[Ctx]) -> int: ...
    def __get__(self, view: Ctx | None, owner: type[Ctx]) -> _Val | int:
        if view is None:
            return self
        value: int = _VALUE.unpack_from(view._bytes, self._offset(view))[0]
        return value

    def __set__(self, view: Ctx, value: int) -> None:
        try:
            _VALUE.pack_into(view._bytes, self._offset(view), value)
        except struct.error:
            if isinstance(value, int):
                raise ValueError(f"val{self.place} has 64 bits with a sign, {value} does not fit") from None
            raise TypeError(f"val{self.place} is an int, not {type(value).__name__}") from None

    def _offset(self, view: Ctx) -> int:
        if self.place > view.vals:
            raise AttributeError(f"this shape has {view.vals} numbers, there is no val{self.place}")
        return 8 * (view.refs + self.place)


class Ctx:
    """A shape over one extended slot; made by `uring.ExtSQE.ctx`.

    ``fn`` holds a function and ``ref1`` to ``ref7`` any object, None before they are set; ``val1`` to
    ``val7`` hold signed 64-bit integers, and ``data`` is a writable view of the remaining bytes. An attribute
    that the shape lacks raises AttributeError.

    Args:
        sidecar: the slot's references.
        user_data: the slot's 64 bytes.
        refs: how many references, 0 to 7.
        vals: how many numbers, 0 to 7 less ``refs``.

    Raises:
        ValueError: below 0, or more than 7 together.
    """

    __slots__ = ("_bytes", "_sidecar", "refs", "vals")

    def __init__(self, sidecar: list[object], user_data: bytearray, refs: int, vals: int) -> None:
        if not (refs >= 0 and vals >= 0 and refs + vals <= _MOST):
            raise ValueError(
                f"refs and vals are 0 or more and {_MOST} at most together, not {refs} and {vals}"
            )
        self._sidecar = sidecar
        self._bytes = user_data
        self.refs: int = refs
        self.vals: int = vals

    fn: _Ref[Callable[..., object]] = _Ref(0)
    ref1: _Ref[object] = _Ref(1)
    ref2: _Ref[object] = _Ref(2)
    ref3: _Ref[object] = _Ref(3)
    ref4: _Ref[object] = _Ref(4)
    ref5: _Ref[object] = _Ref(5)
    ref6: _Ref[object] = _Ref(6)
    ref7: _Ref[object] = _Ref(7)
    val1: _Val = _Val(1)
    val2: _Val = _Val(2)
    val3: _Val = _Val(3)
    val4: _Val = _Val(4)
    val5: _Val = _Val(5)
    val6: _Val = _Val(6)
    val7: _Val = _Val(7)

    @property
    def data(self) -> memoryview:
        """The 56 - 8 * (refs + vals) bytes that neither references nor numbers take."""
        return memoryview(self._bytes)[8 * (1 + self.refs + self.vals) :]
