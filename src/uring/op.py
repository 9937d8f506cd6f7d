"""One prepared request: the fields of its entry, what it pins and how its result decodes.

An `Op` is inert: making one does not touch the kernel, and the same object may not be in flight twice
(its memory would be shared). The functions in ``uring.ops`` make them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Op"]


class Op:
    """A request ready to be queued under any ``user_data``.

    Attributes:
        name: the operation as its function in ``uring.ops`` is called.
        fields: opcode, flags (ioprio from bit 8 on), fd, off, addr, len, op_flags, buf_index, file_index,
            addr3: the arguments of ``KernelRing.put`` after ``user_data``.
        pins: objects that stay alive until the last completion.
        decode: makes the Python result of a result of zero or more; None leaves the integer.
        discard: undoes a result that nobody will receive, e.g. closes an accepted descriptor.
    """

    __slots__ = ("decode", "discard", "fields", "name", "pins")

    def __init__(
        self,
        name: str,
        fields: tuple[int, int, int, int, int, int, int, int, int, int],
        pins: object = None,
        decode: Callable[[int], Any] | None = None,
        discard: Callable[[int], None] | None = None,
    ) -> None:
        self.name = name
        self.fields = fields
        self.pins = pins
        self.decode = decode
        self.discard = discard

    @property
    def opcode(self) -> int:
        return self.fields[0]

    @property
    def fd(self) -> int:
        """The descriptor the operation works on, or what stands in its place (-1: none)."""
        return self.fields[2]

    def with_flags(self, flags: int) -> Op:
        """The same request with more ``IOSQE_*`` flags (io_uring_enter(2))."""
        opcode, old, *rest = self.fields
        return Op(self.name, (opcode, old | flags, *rest), self.pins, self.decode, self.discard)  # type: ignore[arg-type]

    def __repr__(self) -> str:
        return f"<Op {self.name} fd={self.fd}>"
