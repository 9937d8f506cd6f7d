"""Extended attributes of files. The kernel has no operations that list or remove them."""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

from .. import abi
from ..kernel.memory import pin, pin_writable, zeroed
from .base import Fd, Path, check_c_string, check_fd, check_flags, make

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Buffer

    from ..kernel.memory import Zeroed
    from ..kernel.op import Op

__all__ = ["fgetxattr", "fsetxattr", "getxattr", "setxattr"]


_VALUE_MAX = 65536
"""``XATTR_SIZE_MAX``."""


@overload
def getxattr(
    path: Path, name: Path, value: None = None, *, sqe_flags: int = ..., personality: int = ...
) -> Op[bytes]: ...
@overload
def getxattr(
    path: Path, name: Path, value: Buffer, *, sqe_flags: int = ..., personality: int = ...
) -> Op[int]: ...
@overload
def getxattr(
    path: Path, name: Path, value: Buffer | None = None, *, sqe_flags: int = ..., personality: int = ...
) -> Op[int | bytes]: ...
def getxattr(
    path: Path, name: Path, value: Buffer | None = None, *, sqe_flags: int = 0, personality: int = 0
) -> Op[int | bytes]:
    """Reads an extended attribute of a file.

    Args:
        path: str, bytes or `os.PathLike`; a symbolic link is followed.
        name: the attribute, with its namespace: ``user.mime``.
        value: a writable buffer for the value, of which 65536 bytes are used at most. An empty one asks for
            the size.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        Without ``value``: the attribute's bytes. With it: how many bytes the attribute has.

    Errors:
        - ``ENODATA``: the file has no such attribute.
        - ``ERANGE``: ``value`` is too small.
        - ``EOPNOTSUPP``: the file system does not have this namespace.
        - ``ENOENT``, ``EACCES``, ``ENOTDIR``, ``ELOOP``: as stat(2).

    Cancellation:
        It runs in a kernel worker. `async_cancel` ends it with ``ECANCELED`` only while it is queued there;
        once it runs it goes on to its result. `link_timeout` does not end it.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range, or a path has a NUL byte.

    Since:
        Linux 5.19.

    Source:
        getxattr(2); io_uring_prep_getxattr(3).
    """
    where = check_c_string("path", path)
    return _getxattr("getxattr", abi.IORING_OP_GETXATTR, -1, name, value, where, (path,), False).with_options(
        sqe_flags, personality
    )


@overload
def fgetxattr(
    fd: Fd,
    name: Path,
    value: None = None,
    *,
    fixed_file: bool = ...,
    sqe_flags: int = ...,
    personality: int = ...,
) -> Op[bytes]: ...
@overload
def fgetxattr(
    fd: Fd, name: Path, value: Buffer, *, fixed_file: bool = ..., sqe_flags: int = ..., personality: int = ...
) -> Op[int]: ...
@overload
def fgetxattr(
    fd: Fd,
    name: Path,
    value: Buffer | None = None,
    *,
    fixed_file: bool = ...,
    sqe_flags: int = ...,
    personality: int = ...,
) -> Op[int | bytes]: ...
def fgetxattr(
    fd: Fd,
    name: Path,
    value: Buffer | None = None,
    *,
    fixed_file: bool = False,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Op[int | bytes]:
    """Reads an extended attribute of an open file.

    Args:
        fd: a descriptor, or an object with ``fileno()``.
        name: the attribute, with its namespace: ``user.mime``.
        value: a writable buffer for the value, of which 65536 bytes are used at most. An empty one asks for
            the size.
        fixed_file: ``fd`` is an index into the registered files.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        Without ``value``: the attribute's bytes. With it: how many bytes the attribute has.

    Errors:
        - ``EBADF``: ``fd`` is not open, or the slot is empty.
        - ``ENODATA``: the file has no such attribute.
        - ``ERANGE``: ``value`` is too small.
        - ``EOPNOTSUPP``: the file system does not have this namespace.

    Cancellation:
        It runs in a kernel worker. `async_cancel` ends it with ``ECANCELED`` only while it is queued there;
        once it runs it goes on to its result. `link_timeout` does not end it.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range, or a path has a NUL byte.

    Since:
        Linux 5.19.

    Source:
        fgetxattr(2); io_uring_prep_fgetxattr(3).
    """
    file = check_fd(fd)
    return _getxattr(
        "fgetxattr", abi.IORING_OP_FGETXATTR, file, name, value, None, (), fixed_file
    ).with_options(sqe_flags, personality)


def setxattr(
    path: Path, name: Path, value: Buffer, flags: int = 0, *, sqe_flags: int = 0, personality: int = 0
) -> Op[int]:
    """Sets an extended attribute of a file.

    Args:
        path: str, bytes or `os.PathLike`; a symbolic link is followed.
        name: the attribute, with its namespace: ``user.mime``.
        value: its bytes, 65536 at most.
        flags: ``XATTR_CREATE``: it must not exist; ``XATTR_REPLACE``: it must.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        0.

    Errors:
        - ``EEXIST``, ``ENODATA``: it exists, with ``XATTR_CREATE``; it does not, with ``XATTR_REPLACE``.
        - ``EOPNOTSUPP``: the file system does not have this namespace.
        - ``ENOSPC``, ``EDQUOT``, ``E2BIG``: there is no room for it.
        - ``EPERM``, ``EACCES``, ``ENOENT``, ``ENOTDIR``, ``ELOOP``: as setxattr(2).

    Cancellation:
        It runs in a kernel worker. `async_cancel` ends it with ``ECANCELED`` only while it is queued there;
        once it runs it goes on to its result. `link_timeout` does not end it.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range, or a path has a NUL byte.

    Since:
        Linux 5.19.

    Source:
        setxattr(2); io_uring_prep_setxattr(3).
    """
    where = check_c_string("path", path)
    return _setxattr(
        "setxattr", abi.IORING_OP_SETXATTR, -1, name, value, flags, where, (path,), False
    ).with_options(sqe_flags, personality)


def fsetxattr(
    fd: Fd,
    name: Path,
    value: Buffer,
    flags: int = 0,
    *,
    fixed_file: bool = False,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Op[int]:
    """Sets an extended attribute of an open file.

    Args:
        fd: a descriptor, or an object with ``fileno()``.
        name: the attribute, with its namespace: ``user.mime``.
        value: its bytes, 65536 at most.
        flags: ``XATTR_CREATE``: it must not exist; ``XATTR_REPLACE``: it must.
        fixed_file: ``fd`` is an index into the registered files.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        0.

    Errors:
        - ``EBADF``: ``fd`` is not open, or the slot is empty.
        - ``EEXIST``, ``ENODATA``: it exists, with ``XATTR_CREATE``; it does not, with ``XATTR_REPLACE``.
        - ``EOPNOTSUPP``: the file system does not have this namespace.
        - ``ENOSPC``, ``EDQUOT``, ``E2BIG``: there is no room for it.
        - ``EPERM``, ``EACCES``: as setxattr(2).

    Cancellation:
        It runs in a kernel worker. `async_cancel` ends it with ``ECANCELED`` only while it is queued there;
        once it runs it goes on to its result. `link_timeout` does not end it.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range, or a path has a NUL byte.

    Since:
        Linux 5.19.

    Source:
        fsetxattr(2); io_uring_prep_fsetxattr(3).
    """
    file = check_fd(fd)
    return _setxattr(
        "fsetxattr", abi.IORING_OP_FSETXATTR, file, name, value, flags, None, (), fixed_file
    ).with_options(sqe_flags, personality)


def _getxattr(
    name: str,
    opcode: int,
    fd: int,
    key: Path,
    value: Buffer | None,
    where: Zeroed | None,
    paths: tuple[Path, ...],
    fixed_file: bool,
) -> Op[int | bytes]:
    word = check_c_string("name", key)
    decode: Callable[[int], bytes] | None = None
    held: object
    if value is None:
        room = zeroed(_VALUE_MAX)
        address, length, held = room.address, _VALUE_MAX, room
        decode = lambda res: bytes(room.view[:res])  # noqa: E731
    else:
        address, length, held = pin_writable(value)
    return make(
        name,
        opcode,
        fd,
        off=address,
        addr=word.address,
        length=min(length, _VALUE_MAX),
        addr3=where.address if where else 0,
        fixed_file=fixed_file,
        pins=(word, held, where),
        paths=paths,
        decode=decode,
    )


def _setxattr(
    name: str,
    opcode: int,
    fd: int,
    key: Path,
    value: Buffer,
    flags: int,
    where: Zeroed | None,
    paths: tuple[Path, ...],
    fixed_file: bool,
) -> Op[int]:
    word = check_c_string("name", key)
    address, length, held = pin(value)
    if length > _VALUE_MAX:
        raise ValueError(f"an extended attribute has at most {_VALUE_MAX} bytes, not {length}")
    return make(
        name,
        opcode,
        fd,
        off=address,
        addr=word.address,
        length=length,
        op_flags=check_flags("flags", flags),
        addr3=where.address if where else 0,
        fixed_file=fixed_file,
        pins=(word, held, value, where),
        paths=paths,
    )
