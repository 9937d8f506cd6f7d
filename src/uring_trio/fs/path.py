"""`Path`: `trio.Path` with its system calls on the ring.

On the ring: ``open``, ``read_*``, ``write_*``, ``stat``, ``lstat``, ``exists``, ``is_*``,
``samefile``, ``mkdir``, ``rename``, ``replace``, ``unlink``, ``rmdir``, ``symlink_to``, ``hardlink_to``,
``touch``.

The ring has no operation for the others (listing a directory and what builds on it, ``readlink``,
``resolve``, ``chmod``, ``owner`` and the like): they use a thread, as they do in Trio.
"""

from __future__ import annotations

import errno
import os
import pathlib
import stat as modes
import sys
from typing import TYPE_CHECKING, Any, ClassVar

import trio

from uring.cached import find_stat
from uring.errors import EXPLAINED

from .. import seams
from . import functions as paths
from . import open_file, stats
from .filenames import absolute, named, open_named

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Self

__all__ = ["Path", "PathMethods", "is_mount_point"]

_FOLLOWS_TO_MOUNT = sys.version_info < (3, 12)
"""Whether this Python's pathlib says of a symbolic link to a mount that it is one."""

_ERRORS_RAISE = sys.version_info < (3, 14)
"""Whether this Python's pathlib raises where it cannot find out, as for a name that is too long; later ones
answer False."""

_ABSENT = frozenset((errno.ENOENT, errno.ENOTDIR, errno.EBADF, errno.ELOOP))


class PathMethods:
    """The methods of `Path` that are on the ring; see `pathlib.Path` for what each does.

    They use only what every kind of path has, and do not call each other through ``self``: so they serve as
    methods of other classes of paths too.
    """

    __slots__ = ()

    if TYPE_CHECKING:

        def __fspath__(self) -> str: ...

    async def open(
        self,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> Any:
        r"""Opens the file; see `open_file`.

        Args:
            mode: as for `open`: ``"r"``, ``"wb"`` and their like.
            buffering: as for `open`: 0 none, 1 by lines, larger a size in bytes, -1 the usual size.
            encoding: as for `open`: by default UTF-8 or the locale's.
            errors: as for `open`: what to do about text that does not fit the encoding, ``"strict"`` by
                default.
            newline: as for `open`: how ends of lines are translated, by default all of them to ``\n``.
        """
        return await open_file(self, mode, buffering, encoding, errors, newline)

    async def read_bytes(self) -> bytes:
        """All of the file."""
        async with await open_file(self, "rb") as file:
            data: bytes = await file.read()
        return data

    async def read_text(
        self, encoding: str | None = None, errors: str | None = None, newline: str | None = None
    ) -> str:
        r"""All of the file as text.

        Args:
            encoding: as for `open`: by default UTF-8 or the locale's.
            errors: as for `open`: what to do about text that does not fit the encoding, ``"strict"`` by
                default.
            newline: as for `open`: how ends of lines are translated, by default all of them to ``\n``.
        """
        async with await open_file(self, "r", -1, encoding, errors, newline) as file:
            text: str = await file.read()
        return text

    async def write_bytes(self, data: Any) -> int:
        """Makes the file anew with these bytes; returns their number.

        Args:
            data: a buffer of any kind, such as `bytes`.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        with memoryview(data) as view:
            async with await open_file(self, "wb") as file:
                return int(await file.write(view))

    async def write_text(
        self, data: str, encoding: str | None = None, errors: str | None = None, newline: str | None = None
    ) -> int:
        r"""Makes the file anew with this text; returns the number of characters.

        Args:
            data: the text.
            encoding: as for `open`: by default UTF-8 or the locale's.
            errors: as for `open`: what to do about text that does not fit the encoding, ``"strict"`` by
                default.
            newline: as for `open`: how ends of lines are translated, by default all of them to ``\n``.
        """
        if not isinstance(data, str):
            await trio.lowlevel.checkpoint()
            raise TypeError(f"data must be str, not {type(data).__name__}")
        async with await open_file(self, "w", -1, encoding, errors, newline) as file:
            return int(await file.write(data))

    async def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """The attributes of the file; see `os.stat`.

        Args:
            follow_symlinks: whether to look at the target of a symbolic link; if not, at the link.
        """
        # As `stats.stat`, with a frame less: programs call it for very many paths.
        found: os.stat_result | int | None
        found = await seams.attempt_on_ring(find_stat, self, follow_symlinks)
        if isinstance(found, os.stat_result):
            return found
        return await stats.ask_for_stat(self, follow_symlinks, found)

    async def lstat(self) -> os.stat_result:
        """`stat` of the symbolic link itself, if it is one."""
        return await stats.stat(os.fspath(self), follow_symlinks=False)

    async def exists(self, *, follow_symlinks: bool = True) -> bool:
        """Whether there is something at this path.

        Args:
            follow_symlinks: whether to look at the target of a symbolic link; if not, at the link.
        """
        return await _mode(self, follow_symlinks) is not None

    async def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        """Whether it is a directory.

        Args:
            follow_symlinks: whether to look at the target of a symbolic link; if not, at the link.
        """
        return modes.S_ISDIR(await _mode(self, follow_symlinks) or 0)

    async def is_file(self, *, follow_symlinks: bool = True) -> bool:
        """Whether it is a regular file.

        Args:
            follow_symlinks: whether to look at the target of a symbolic link; if not, at the link.
        """
        return modes.S_ISREG(await _mode(self, follow_symlinks) or 0)

    async def is_symlink(self) -> bool:
        """Whether it is a symbolic link."""
        return modes.S_ISLNK(await _mode(self, False) or 0)

    async def is_socket(self) -> bool:
        """Whether it is a socket."""
        return modes.S_ISSOCK(await _mode(self, True) or 0)

    async def is_fifo(self) -> bool:
        """Whether it is a FIFO."""
        return modes.S_ISFIFO(await _mode(self, True) or 0)

    async def is_block_device(self) -> bool:
        """Whether it is a block device."""
        return modes.S_ISBLK(await _mode(self, True) or 0)

    async def is_char_device(self) -> bool:
        """Whether it is a character device."""
        return modes.S_ISCHR(await _mode(self, True) or 0)

    async def is_mount(self) -> bool:
        """Whether a file system is mounted here: it is on another one than its parent, or is the root."""
        given = os.fspath(self)
        if not _FOLLOWS_TO_MOUNT:
            return await is_mount_point(given)
        try:
            start = _start_of(given)
            here = await _stat(start, given)
            if not modes.S_ISDIR(here.st_mode):
                return False
            there = await _stat(start, os.fspath(self.parent))  # type: ignore[attr-defined]
        except OSError as exc:
            if isinstance(exc, EXPLAINED) or exc.errno not in _ABSENT:
                raise
            return False
        except ValueError:  # a name that the file system cannot have
            await trio.lowlevel.checkpoint()
            return False
        return here.st_dev != there.st_dev or here.st_ino == there.st_ino

    async def samefile(self, other_path: Any) -> bool:
        """Whether the other path leads to the same file.

        Args:
            other_path: a path.
        """
        other = other_path if hasattr(other_path, "stat") else pathlib.PurePosixPath(other_path)
        names = os.fspath(self), os.fspath(other)
        starts = [_start_of(name) for name in names]
        mine, its = [await _stat(start, name) for start, name in zip(starts, names)]
        return os.path.samestat(mine, its)

    async def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        """Makes a directory.

        Args:
            mode: its permissions, of which the umask takes some away.
            parents: make the directories above it too, where they are missing.
            exist_ok: a directory that is there already is no error.
        """
        given = pathlib.PurePosixPath(os.fspath(self))
        await _mkdir(given, _start_of(given), mode, parents, exist_ok)

    async def rename(self, target: Any) -> Self:
        """Renames it; returns the new path.

        Args:
            target: the new path, an absolute one or one from the working directory.
        """
        await paths.rename(os.fspath(self), target)
        return self.__class__(target)  # type: ignore[call-arg]

    async def replace(self, target: Any) -> Self:
        """Renames it, replacing the target; returns the new path.

        Args:
            target: the new path, an absolute one or one from the working directory.
        """
        await paths.rename(os.fspath(self), target)
        return self.__class__(target)  # type: ignore[call-arg]

    async def unlink(self, missing_ok: bool = False) -> None:
        """Removes the file.

        Args:
            missing_ok: a file that is not there is no error.
        """
        try:
            await paths.unlink(os.fspath(self))
        except FileNotFoundError:
            if not missing_ok:
                raise

    async def rmdir(self) -> None:
        """Removes the directory, which must be empty."""
        await paths.rmdir(os.fspath(self))

    async def symlink_to(self, target: Any, target_is_directory: bool = False) -> None:
        """Makes this path a symbolic link to the target.

        Args:
            target: the path that the link says.
            target_is_directory: ignored, as by Python on Linux.
        """
        await paths.symlink(target, os.fspath(self))

    async def hardlink_to(self, target: Any) -> None:
        """Makes this path another name of the target.

        Args:
            target: the file that gets this other name, a path.
        """
        await paths.link(target, os.fspath(self))

    async def touch(self, mode: int = 0o666, exist_ok: bool = True) -> None:
        """Makes the file, or sets its times to now.

        The ring finds the file; setting the times of one that is found is a system call in this thread.

        Args:
            mode: the permissions of a file that is made, of which the umask takes some away.
            exist_ok: if false, a file that is there already is an error.
        """
        given = os.fspath(self)
        name = absolute(given)
        if exist_ok:
            try:
                await stats.stat(name)
                os.utime(name)
            except OSError:
                pass  # the open reports the reason
            else:
                return
        flags = os.O_CREAT | os.O_WRONLY | (0 if exist_ok else os.O_EXCL)
        sys.audit("open", given, None, flags | os.O_CLOEXEC)
        os.close(await open_named(name, given, flags, mode))


class Path(PathMethods, trio.Path, pathlib.PurePosixPath):
    """A `trio.Path` whose methods use the ring; a few need a thread (`uring_trio.fs.path` lists them).

    Needs a ring run. Its instances are `trio.Path` objects, and a path made from one is a `Path`.

    Each async method is a checkpoint. Cancelled, it has done nothing, or ends first and returns its result;
    `write_bytes`, `write_text`, `touch` and `mkdir` with ``parents`` take several steps and may have done
    the first.

    Raises:
        OSError, ValueError, TypeError: from each method, as that of `pathlib.Path`.
        RuntimeError: from each method that uses the ring, outside a ring run.
    """

    __slots__ = ()

    _wrapped_cls: ClassVar[type[pathlib.Path]] = pathlib.PosixPath

    def __repr__(self) -> str:
        return f"uring_trio.Path({str(self)!r})"


async def _mode(path: Any, follow: bool) -> int | None:
    """The mode of what is there, None if nothing is."""
    try:
        return (await stats.stat(os.fspath(path), follow_symlinks=follow)).st_mode
    except OSError as exc:
        if isinstance(exc, EXPLAINED) or (_ERRORS_RAISE and exc.errno not in _ABSENT):
            raise
    except ValueError:  # a name that the file system cannot have
        await trio.lowlevel.checkpoint()
    return None


async def is_mount_point(given: str) -> bool:
    """`os.path.ismount`, by which later versions of pathlib answer, and AnyIO: a link to a mount is none, a
    file may be one.

    Args:
        given: the path.
    """
    try:
        start = _start_of(given)
        here = await _stat(start, given, False)
        if modes.S_ISLNK(here.st_mode):
            return False
        folder = modes.S_ISDIR(here.st_mode)
        there = await _stat(start, os.path.join(given, "..") if folder else os.path.dirname(given) or ".")
    except OSError as exc:
        if isinstance(exc, EXPLAINED):
            raise
        return False
    except ValueError:  # a name that the file system cannot have
        await trio.lowlevel.checkpoint()
        return False
    return here.st_dev != there.st_dev or here.st_ino == there.st_ino


def _start_of(path: Any) -> str:
    """The prefix that makes a path absolute: "" or the working directory with a slash. A method of
    several steps looks it up once, so that all of them start at the same place, even if other code
    calls ``chdir`` meanwhile."""
    given = os.fspath(path)
    whole: str = absolute(given)
    return whole[: len(whole) - len(given)]


def _stat(start: str, given: str, follow: bool = True) -> Coroutine[Any, Any, os.stat_result]:
    return named(stats.stat(start + given, follow_symlinks=follow), given)


async def _mkdir(
    path: pathlib.PurePosixPath, start: str, mode: int, parents: bool = False, exist_ok: bool = False
) -> None:
    given = str(path)
    try:
        await paths.make_directory(start + given, given, mode)
    except FileNotFoundError:
        if not parents or path.parent == path:
            raise
        await _mkdir(path.parent, start, 0o777, parents=True, exist_ok=True)
        await _mkdir(path, start, mode, exist_ok=exist_ok)
    except OSError:
        if not exist_ok or not await _is_dir(start, given):
            raise


async def _is_dir(start: str, given: str) -> bool:
    try:
        return modes.S_ISDIR((await _stat(start, given)).st_mode)
    except OSError as exc:
        if isinstance(exc, EXPLAINED) or (_ERRORS_RAISE and exc.errno not in _ABSENT):
            raise
        return False
