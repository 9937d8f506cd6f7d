"""Advice where a ring is refused, from this machine's settings and this process's limits.

The kernel does not say which limit an ENOMEM stands for. A limit whose use can be read (address space, data,
memory cgroup) is named where too little is left under it for the request. The kernel does not show how much
memory a user's rings have locked: ``RLIMIT_MEMLOCK`` is named where it applies and no other limit explains
the error.
"""

from __future__ import annotations

import errno
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["advice", "thread_advice"]

_SYSCTL: Final = Path("/proc/sys/kernel")
_PROCESS: Final = Path("/proc/self")
_CGROUPS: Final = Path("/sys/fs/cgroup")

_SLACK: Final = 1 << 20
"""Bytes: an allocator that needs a little more asks for about this much."""

_IPC_LOCK: Final = 1 << 14
_NO_LIMIT: Final = 1 << 60
"""Limits above this, in bytes, stand for none."""


class _Room(NamedTuple):
    """Bytes that are left under a limit."""

    left: int
    limit: int
    name: str
    how: str


def advice(number: int, call: str, memory: int) -> str:
    """The sentence for an errno of one of io_uring's system calls.

    Args:
        call: the system call that failed.
        memory: bytes that were asked for, as far as known.
    """
    if number == errno.ENOSYS:
        return (
            f"the kernel was built without CONFIG_IO_URING, or a sandbox hides {call}; "
            "run on Linux 6.18 or later, outside the sandbox"
        )
    if number in (errno.EPERM, errno.EACCES):
        return _permission(_sysctl("io_uring_disabled") if call == "io_uring_setup" else "", call)
    if number == errno.ENOMEM:
        return _memory(memory)
    if number == errno.EMFILE:
        return (
            "the process has no descriptor left; "
            "raise RLIMIT_NOFILE (ulimit -n, LimitNOFILE= of a systemd unit)"
        )
    if number == errno.ENFILE:
        return "the system has no file left; raise the sysctl fs.file-max"
    if number == errno.EINVAL and call == "io_uring_setup":
        return "the kernel does not know a set-up flag, or the flags contradict each other; use Linux 6.18"
    if number == errno.EAGAIN:
        return (
            f"{call} lacks something for now: a thread, or memory under mlockall, which counts against "
            f"RLIMIT_MEMLOCK{_memlock()}"
        )
    return f"{call} failed"


def thread_advice() -> str:
    """The sentence for a thread that could not be made."""
    return (
        f"raise RLIMIT_NPROC{_nproc()}, which counts the threads of all of this user's processes "
        "(ulimit -u, LimitNPROC= of a systemd unit), or the pids limit of the control group "
        "(TasksMax= of a systemd unit, --pids-limit of a container)"
    )


def _permission(disabled: str, call: str) -> str:
    if disabled == "2":
        return "kernel.io_uring_disabled is 2, which forbids it to everyone; set it to 0 (sysctl -w)"
    if disabled == "1":
        group = _sysctl("io_uring_group")
        return (
            "kernel.io_uring_disabled is 1, which leaves it to CAP_SYS_ADMIN and to the members of "
            f"kernel.io_uring_group (now {group or 'not set'}); set the former to 0, or the latter to the "
            "id of a group that this user is in"
        )
    return (
        f"a seccomp filter or security module forbids {call}; in a container use a seccomp profile that "
        "allows io_uring_setup, io_uring_enter and io_uring_register (Docker's default does not)"
    )


def _memory(wanted: int) -> str:
    tight = [room for room in _rooms() if room.left < wanted + _SLACK]
    told = [
        f"{room.name} leaves {room.left // 1024} KiB of {room.limit // 1024} KiB; raise it ({room.how})"
        for room in tight
    ]
    if not any(room.name.startswith("RLIMIT") for room in tight) and _locked_memory_is_counted():
        told.append(
            "the registered buffers of a user, and on Linux 6.18 the queues of all rings, count against "
            f"RLIMIT_MEMLOCK{_memlock()}; raise it (ulimit -l, LimitMEMLOCK= of a systemd unit), or ask for "
            "less"
        )
    return "; or ".join(told) or "the kernel has no memory left for it"


def _rooms() -> Iterator[_Room]:
    try:
        # Imported here since only Unix has it.
        from resource import RLIM_INFINITY, RLIMIT_AS, RLIMIT_DATA, getrlimit
    except ImportError:
        return
    status = _status()
    for which, name, used, how in (
        (
            RLIMIT_AS,
            "RLIMIT_AS, the limit of address space,",
            "VmSize",
            "ulimit -v, LimitAS= of a systemd unit",
        ),
        (RLIMIT_DATA, "RLIMIT_DATA, the limit of data,", "VmData", "ulimit -d, LimitDATA= of a systemd unit"),
    ):
        limit = getrlimit(which)[0]
        if limit != RLIM_INFINITY and used in status:
            yield _Room(max(0, limit - 1024 * int(status[used].split()[0])), limit, name, how)
    yield from _memory_cgroups()


def _memory_cgroups() -> Iterator[_Room]:
    """The memory cgroup of this process and those above it that have a limit."""
    how = "memory.max of the cgroup, MemoryMax= of a systemd unit, --memory of a container"
    for line in _read(_PROCESS / "cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            root, most, used = _CGROUPS, "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            root, most, used = _CGROUPS / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        group = root / path.strip("/")
        for folder in (group, *group.parents):
            limit, current = _read(folder / most), _read(folder / used)
            if limit.isdecimal() and current.isdecimal() and int(limit) < _NO_LIMIT:
                left = max(0, int(limit) - int(current))
                yield _Room(left, int(limit), f"the memory cgroup /{folder.relative_to(root)}", how)
            if folder == root:
                break


def _locked_memory_is_counted() -> bool:
    """Whether RLIMIT_MEMLOCK applies: not where it is unlimited, and not with CAP_IPC_LOCK, which counts in
    the first user namespace alone."""
    if not _memlock():
        return False
    may_lock = int(_status().get("CapEff", "0"), 16) & _IPC_LOCK
    return not may_lock or _read(_PROCESS / "uid_map").split() != ["0", "0", "4294967295"]


def _memlock() -> str:
    try:
        # Imported here since only Unix has it.
        from resource import RLIM_INFINITY, RLIMIT_MEMLOCK, getrlimit
    except ImportError:
        return ""
    soft, _ = getrlimit(RLIMIT_MEMLOCK)
    return "" if soft == RLIM_INFINITY else f" (now {soft // 1024} KiB)"


def _nproc() -> str:
    try:
        # Imported here since only Unix has it.
        from resource import RLIM_INFINITY, RLIMIT_NPROC, getrlimit
    except ImportError:
        return ""
    soft, _ = getrlimit(RLIMIT_NPROC)
    return "" if soft == RLIM_INFINITY else f" (now {soft})"


def _status() -> dict[str, str]:
    pairs = (line.partition(":") for line in _read(_PROCESS / "status").splitlines())
    return {name: value.strip() for name, _, value in pairs}


def _sysctl(name: str) -> str:
    """The setting's value, or "" where there is none."""
    return _read(_SYSCTL / name)


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
