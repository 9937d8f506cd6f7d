"""Completions as the program sees them.

A completion is one of five tuples:

- ``(user_data, res, flags)``
- ``(user_data, res, flags, request)``
- ``(user_data, res, flags, big, big)``
- ``(user_data, res, flags, big, big, decoder)``
- ``(user_data, res, flags, big, big, decoder, request)``

The two ``big`` are the second half of a 32-byte completion, else 0. ``decoder`` decodes the result, None
where the number is all; for an error it is the arguments of `uring.kernel.op.failure`. Attributes are
computed on access, so that a completion costs only the tuple.
"""

from __future__ import annotations

from collections import namedtuple
from typing import TYPE_CHECKING, Any

from ..abi import IOSQE_BUFFER_SELECT, CqeFlag, Op
from ..errors import error_from_result
from ..kernel.op import failure
from .context import ExtSQE, IndirectSQE, SQEContext, find_slot
from .entry import SQEView

if TYPE_CHECKING:
    from .requests import Request

__all__ = ["CQEView", "Completion", "DirectCQE", "ExtCQE"]

_BUFFER_SELECT = int(IOSQE_BUFFER_SELECT)
_F_BUFFER = int(CqeFlag.IORING_CQE_F_BUFFER)
_F_MORE = int(CqeFlag.IORING_CQE_F_MORE)
_F_SOCK_NONEMPTY = int(CqeFlag.IORING_CQE_F_SOCK_NONEMPTY)
_F_NOTIF = int(CqeFlag.IORING_CQE_F_NOTIF)
_F_BUF_MORE = int(CqeFlag.IORING_CQE_F_BUF_MORE)
_BUFFER_SHIFT = 16
_FD_SIGN = 1 << 61
_FD_MASK = (1 << 30) - 1


_TOLD = 5
"""The place of the decoder or of the arguments of `failure`."""
_REQUEST = {4: 3, 7: 6}
"""The place of the request, by the tuple's length."""

_getters: Any = namedtuple("_getters", "user_data res")
"""A named tuple's attributes are read faster than any property."""
_getters.user_data.__doc__ = "The context it was submitted under, as a plain integer."
_getters.res.__doc__ = "The result: a number of bytes, a descriptor, …, or a negated errno."


class Completion(tuple[int, ...]):
    """The common attributes of all completions."""

    __slots__ = ()

    if TYPE_CHECKING:

        @property
        def user_data(self) -> int: ...
        @property
        def res(self) -> int: ...

    else:
        user_data, res = _getters.user_data, _getters.res

    @property
    def flags(self) -> CqeFlag:
        """``IORING_CQE_F_*``; the buffer's number from bit 16 on."""
        return CqeFlag(self[2])

    @property
    def is_success(self) -> bool:
        """Whether the result is not an error."""
        return self[1] >= 0

    @property
    def request(self) -> Request[object] | None:
        """The request that it completes, if that was made without a context; else None."""
        place = _REQUEST.get(len(self))
        carried: Any = None if place is None else self[place]
        return carried  # type: ignore[no-any-return]

    def result(self) -> object:
        """The decoded result: a pair of descriptors, an address, a `StatxResult`, bytes, or the number
        itself.

        Raises:
            OSError: the completion is an error. It names the operation, its descriptor, address and paths.
            LookupError: several requests were in flight under one direct context, so that the request of this
                result is not known.
        """
        res = self[1]
        told: Any = self[_TOLD] if len(self) > _TOLD else None
        if res < 0:
            raise error_from_result(res) if told is None else failure(res, *told)
        return res if told is None else told(res)

    @property
    def has_more(self) -> bool:
        """Whether more completions of this submission follow (multishot, zero-copy)."""
        return self[2] & _F_MORE != 0

    @property
    def has_buffer(self) -> bool:
        """Whether the kernel took a provided buffer; `buf_id` is its number."""
        return self[2] & _F_BUFFER != 0

    @property
    def has_buffer_more(self) -> bool:
        """Whether the kernel keeps the buffer for more data (incremental buffer rings)."""
        return self[2] & _F_BUF_MORE != 0

    @property
    def is_notification(self) -> bool:
        """Whether this only says that the memory of a zero-copy send is free."""
        return self[2] & _F_NOTIF != 0

    @property
    def socket_nonempty(self) -> bool:
        """Whether the socket had more to read or accept."""
        return self[2] & _F_SOCK_NONEMPTY != 0

    @property
    def buf_id(self) -> int:
        """The number of the buffer taken; meaningful with `has_buffer` only."""
        return self[2] >> _BUFFER_SHIFT

    @property
    def big_cqe(self) -> tuple[int, int]:
        """The second half of a 32-byte completion; zeros where there is none."""
        return (self[3], self[4]) if len(self) > 4 else (0, 0)

    def __repr__(self) -> str:
        whose = self.request or SQEContext(self[0])
        return f"<{type(self).__name__} res={self[1]} flags={self[2]:#x} {whose!r}>"


class CQEView(Completion):
    """A completion of any context, from `uring.Ring.wait`.

    The submitted entry of an indirect or extended one can be read until the slot is given back; `op`, `fd`
    and `buf_group` raise LookupError after that.
    """

    __slots__ = ()

    @property
    def context(self) -> SQEContext:
        """The context it was submitted under."""
        return SQEContext(self[0])

    @property
    def full_sqe(self) -> bool:
        """Whether the submitted entry is kept: requests, indirect and extended contexts."""
        return self[0] >> 62 in (1, 2)

    @property
    def extended(self) -> bool:
        """Whether it has the caller's data: extended contexts."""
        return self[0] >> 62 == 2

    @property
    def op(self) -> Op | int:
        """The operation; a number where this package does not know it.

        Of an integer that the program chose as a context, this, `fd` and `buf_group` are what its bits say.
        """
        request = self.request
        return _op(SQEContext(self[0]).op if request is None else request.fields[0])

    @property
    def fd(self) -> int:
        """The descriptor that was worked on."""
        request = self.request
        return SQEContext(self[0]).fd if request is None else request.fields[2]

    @property
    def buf_group(self) -> int:
        """The buffer group that was submitted; 0 where there is none."""
        request = self.request
        if request is None:
            return SQEContext(self[0]).buf_group
        return request.fields[7] & 0xFFFF if request.fields[1] & _BUFFER_SELECT else 0

    @property
    def sqe(self) -> SQEView:
        """The submitted entry; not `SQEView.valid` in direct mode, nor once the slot was given back."""
        request = self.request
        if request is not None:
            return SQEView(request)
        return SQEView(find_slot(self[0]) if self.full_sqe else None)

    @property
    def indirect_sqe(self) -> IndirectSQE:
        """The slot of an indirect context. Raises LookupError for another one."""
        return SQEContext(self[0]).indirect_sqe

    @property
    def ext_sqe(self) -> ExtSQE:
        """The slot of an extended context. Raises LookupError for another one."""
        return SQEContext(self[0]).ext_sqe

    @property
    def bundle_start_id(self) -> int:
        """The first buffer of a bundle."""
        return self[2] >> _BUFFER_SHIFT

    def bundle_count(self, buffer_size: int) -> int:
        """How many buffers a bundle filled, the last perhaps in part.

        Args:
            buffer_size: bytes of each buffer, from 1 on.

        Returns:
            The number.

        Raises:
            ValueError: ``buffer_size`` is less than 1.
        """
        if buffer_size < 1:
            raise ValueError(f"a buffer has 1 byte or more, not {buffer_size}")
        return max(0, -(-self[1] // buffer_size))

    def bundle_buffers(self, buffer_size: int) -> tuple[int, int]:
        """The buffers of a bundle. The range may pass the end of the ring: see `uring.BundleIterator`.

        Args:
            buffer_size: bytes of each buffer, from 1 on.

        Returns:
            The first buffer, and how many there are.
        """
        return self.bundle_start_id, self.bundle_count(buffer_size)


class DirectCQE(Completion):
    """A completion of a direct context, from `uring.Ring.wait_direct`.

    Its fields are the context's; of any other context they raise LookupError, as there they would be read out
    of the number of a slot or request.
    """

    __slots__ = ()

    @property
    def op(self) -> Op | int:
        """The opcode that was submitted; a bare number where this package knows none."""
        return _op(self._fields() & 0xFF)

    @property
    def sqe_flags(self) -> int:
        """The context's ``IOSQE_*`` flags."""
        return self._fields() >> 8 & 0xFF

    @property
    def buf_group(self) -> int:
        """The context's buffer group."""
        return self._fields() >> 16 & 0xFFFF

    @property
    def fd(self) -> int:
        """The context's descriptor."""
        raw = self._fields()
        return (raw >> 32 & _FD_MASK) - (1 << 30 if raw & _FD_SIGN else 0)

    def _fields(self) -> int:
        """The context, in which the fields are."""
        raw = self[0]
        if raw >> 62 in (1, 2):
            raise LookupError(f"{SQEContext(raw)!r} has no fields: take its completion by wait")
        return raw


class ExtCQE(Completion):
    """A completion of an extended context, from `uring.Ring.wait_extended`."""

    __slots__ = ()

    @property
    def ext(self) -> ExtSQE:
        """The slot. Raises LookupError after it was given back, or when the context is not extended."""
        return SQEContext(self[0]).ext_sqe

    @property
    def op(self) -> Op | int:
        """The opcode that was submitted; a bare number where this package knows none."""
        return _op(SQEContext(self[0]).op)

    @property
    def fd(self) -> int:
        """The descriptor that was worked on."""
        return SQEContext(self[0]).fd


def _op(number: int) -> Op | int:
    try:
        return Op(number)
    except ValueError:
        return number
