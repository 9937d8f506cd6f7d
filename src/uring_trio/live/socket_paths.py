"""Where the sockets of running services are.

A socket's name is the process and the thread of its run. The folder is that of the user: the runtime folder
that a login session or systemd has made, otherwise one in the folder for temporary files. It belongs to the
user alone, and so does the socket.
"""

from __future__ import annotations

import os
import stat
import tempfile
import threading
from pathlib import Path

__all__ = ["socket_for_this_thread", "sockets_of"]


def socket_for_this_thread() -> Path:
    """The path for the run of this thread; its folder is made.

    Raises:
        PermissionError: the folder is there and is not this user's alone.
        OSError: it cannot be made.
    """
    folder = next(each for each in _folders(os.geteuid()) if os.access(each.parent, os.W_OK))
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if found.st_uid != os.geteuid() or not stat.S_ISDIR(found.st_mode) or found.st_mode & 0o077:
        raise PermissionError(f"{folder} is not a folder of this user alone: remove it")
    return folder / f"{os.getpid()}.{threading.get_native_id()}"


def sockets_of(pid: int) -> list[Path]:
    """The sockets of a process's runs, the main thread's first. A process with a root of its own, as in a
    container or with systemd's ``PrivateTmp=``, is looked for there.

    Raises:
        ProcessLookupError: there is no such process.
    """
    try:
        uid = os.stat(f"/proc/{pid}").st_uid
    except FileNotFoundError:
        raise ProcessLookupError(f"there is no process {pid}") from None
    inside = _number_inside(pid)
    for root in ("/", f"/proc/{pid}/root"):
        for folder in _folders(uid):
            try:
                found = list(Path(root, *folder.parts[1:]).glob(f"{pid if root == '/' else inside}.*"))
            except PermissionError:
                continue
            if found:
                return sorted(found, key=lambda path: int(path.suffix[1:]))
    return []


def _folders(uid: int) -> list[Path]:
    return [
        Path("/run/user", str(uid), "uring_trio"),
        Path(tempfile.gettempdir(), f"uring_trio-{uid}"),
        Path("/tmp", f"uring_trio-{uid}"),
    ]


def _number_inside(pid: int) -> str:
    """The process's number in its own namespace."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("NSpid:"):
            return line.split()[-1]
    return str(pid)
