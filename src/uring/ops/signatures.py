"""One signature for each function of ``uring.ops`` that has several, for type checkers.

For a method that is made of such a function, mypy and pyright take only the first signature.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Buffer

    from ..kernel.op import Op
    from .base import Fd, Path, PeerName

__all__ = ["Accept", "Fgetxattr", "FilesUpdate", "Getsockopt", "Getxattr"]


class Accept(Protocol):
    """`uring.ops.accept`."""

    def __call__(
        self,
        fd: Fd,
        *,
        flags: int = ...,
        with_address: bool = ...,
        dontwait: bool = ...,
        poll_first: bool = ...,
        fixed_file: bool = ...,
        sqe_flags: int = ...,
        personality: int = ...,
    ) -> Op[int | tuple[int, PeerName]]: ...


class Getsockopt(Protocol):
    """`uring.ops.getsockopt`."""

    def __call__(
        self,
        fd: Fd,
        level: int,
        optname: int,
        size: int | None = ...,
        *,
        fixed_file: bool = ...,
        sqe_flags: int = ...,
        personality: int = ...,
    ) -> Op[int | bytes]: ...


class Getxattr(Protocol):
    """`uring.ops.getxattr`."""

    def __call__(
        self,
        path: Path,
        name: Path,
        value: Buffer | None = ...,
        *,
        sqe_flags: int = ...,
        personality: int = ...,
    ) -> Op[int | bytes]: ...


class Fgetxattr(Protocol):
    """`uring.ops.fgetxattr`."""

    def __call__(
        self,
        fd: Fd,
        name: Path,
        value: Buffer | None = ...,
        *,
        fixed_file: bool = ...,
        sqe_flags: int = ...,
        personality: int = ...,
    ) -> Op[int | bytes]: ...


class FilesUpdate(Protocol):
    """`uring.ops.files_update`."""

    def __call__(
        self, fds: Sequence[int], offset: int = ..., *, sqe_flags: int = ..., personality: int = ...
    ) -> Op[int | list[int]]: ...
