"""Results become Python's own exceptions, and refusals say what to change."""

import copy
import errno
import os
import pickle
import resource
from pathlib import Path

import pytest

from uring import advice
from uring.errors import (
    CQOverflow,
    ListenerNotReady,
    NotSupported,
    NoWorker,
    OperationRestricted,
    PoolExhausted,
    RingClosed,
    RingUnavailable,
    error_from_result,
    unavailable_from_errno,
)

KINDS = [
    (errno.ECONNREFUSED, ConnectionRefusedError),
    (errno.ECONNRESET, ConnectionResetError),
    (errno.ECONNABORTED, ConnectionAbortedError),
    (errno.EPIPE, BrokenPipeError),
    (errno.ESHUTDOWN, BrokenPipeError),
    (errno.ETIMEDOUT, TimeoutError),
    (errno.ETIME, TimeoutError),
    (errno.EEXIST, FileExistsError),
    (errno.ENOENT, FileNotFoundError),
    (errno.EISDIR, IsADirectoryError),
    (errno.ENOTDIR, NotADirectoryError),
    (errno.EINTR, InterruptedError),
    (errno.EPERM, PermissionError),
    (errno.EACCES, PermissionError),
    (errno.EAGAIN, BlockingIOError),
    (errno.EINPROGRESS, BlockingIOError),
    (errno.ECHILD, ChildProcessError),
    (errno.ESRCH, ProcessLookupError),
    (errno.ECANCELED, OSError),
    (errno.EADDRINUSE, OSError),
    (errno.ENOBUFS, OSError),
    (errno.EINVAL, OSError),
    (errno.ENOMEM, OSError),
    (errno.EFAULT, OSError),
    (errno.EMFILE, OSError),
    (errno.ENFILE, OSError),
    (errno.ENODEV, OSError),
    (errno.EBUSY, OSError),
    (errno.ENAMETOOLONG, OSError),
    (errno.ENOTCONN, OSError),
    (errno.EISCONN, OSError),
    (errno.ENETUNREACH, OSError),
    (errno.EHOSTUNREACH, OSError),
]


@pytest.mark.parametrize(("number", "kind"), KINDS)
def test_class_is_the_one_python_uses(number: int, kind: type[OSError]) -> None:
    plain = error_from_result(-number)
    assert type(plain) is kind
    placed = error_from_result(-number, "recv", 7)
    assert isinstance(placed, kind)
    assert type(placed).__name__ == kind.__name__
    for error in (plain, placed):
        assert error.errno == number
        assert error.strerror == os.strerror(number)
        assert error.args == (number, os.strerror(number))
        assert error.filename is None


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ({}, ""),
        ({"op": "connect"}, ": connect"),
        ({"op": "connect", "fd": 5}, ": connect on fd 5"),
        ({"op": "recv", "fd": 0}, ": recv on fd 0"),
        (
            {"op": "connect", "fd": 5, "address": ("127.0.0.1", 80)},
            ": connect on fd 5, address ('127.0.0.1', 80)",
        ),
        ({"op": "bind", "address": "/run/s"}, ": bind, address '/run/s'"),
        ({"fd": 3}, ": fd 3"),
        ({"address": ("::1", 1)}, ": address ('::1', 1)"),
    ],
)
def test_message_starts_as_stock_and_names_the_place(place: dict[str, object], text: str) -> None:
    stock = str(ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED)))
    assert stock == f"[Errno {errno.ECONNREFUSED}] Connection refused"
    error = error_from_result(-errno.ECONNREFUSED, **place)  # type: ignore[arg-type]
    assert str(error) == stock + text


def test_place_is_readable() -> None:
    error = error_from_result(-errno.ECONNREFUSED, "connect", 5, ("127.0.0.1", 80))
    assert vars(error) == {"op": "connect", "fd": 5, "address": ("127.0.0.1", 80)}
    assert type(error).__name__ == "ConnectionRefusedError"


def test_filename_stays_free() -> None:
    error = error_from_result(-errno.ENOENT, "openat")
    error.filename = "a.txt"
    assert str(error) == f"[Errno {errno.ENOENT}] No such file or directory: 'a.txt': openat"


@pytest.mark.parametrize("res", [-512, -513, -514, -516])
def test_leaked_restart_codes_are_interruptions(res: int) -> None:
    error = error_from_result(res, "splice", 4)
    assert isinstance(error, InterruptedError)
    assert error.errno == errno.EINTR
    assert str(error) == f"[Errno {errno.EINTR}] Interrupted system call: splice on fd 4"


def test_errno_without_a_name_is_kept() -> None:
    error = error_from_result(-4000, "uring_cmd")
    assert error.errno == 4000
    assert isinstance(error, OSError)


@pytest.mark.parametrize("res", [0, 1, 4096])
def test_success_is_not_an_error(res: int) -> None:
    with pytest.raises(ValueError, match=f"{res} is not an error"):
        error_from_result(res)


def test_one_class_per_kind() -> None:
    first = error_from_result(-errno.EPIPE, "send", 1)
    second = error_from_result(-errno.EPIPE, "sendmsg", 2)
    assert type(first) is type(second)
    assert type(first) is not type(error_from_result(-errno.ECONNRESET, "send", 1))


OWN = [
    (RingClosed(), errno.EBADF, "the ring is closed"),
    (RingClosed("stopped"), errno.EBADF, "stopped"),
    (CQOverflow(), errno.EOVERFLOW, "completion queue"),
    (PoolExhausted("no slot is free"), errno.ENOBUFS, "no slot is free"),
    (NotSupported("NOP128", "Linux 6.19"), errno.EOPNOTSUPP, "NOP128 .* needs Linux 6.19"),
    (NotSupported("huge pages"), errno.EOPNOTSUPP, "huge pages is not supported by this kernel$"),
    (RingUnavailable(errno.EPERM, "ask root"), errno.EPERM, "not permitted: .*not available: ask root"),
    (RingUnavailable(errno.EIO), errno.EIO, "not available$"),
    (NoWorker("fsync", "raise it"), errno.EAGAIN, "no thread could be made for fsync: raise it$"),
    (
        OperationRestricted("openat"),
        errno.EACCES,
        r"may not do the operation openat: add it to .*restrictions",
    ),
    (NoWorker(), errno.EAGAIN, "no thread could be made for an operation$"),
]


@pytest.mark.parametrize(("error", "number", "text"), OWN, ids=lambda value: type(value).__name__)
def test_own_errors_are_os_errors(error: OSError, number: int, text: str) -> None:
    assert error.errno == number
    assert str(error).startswith(f"[Errno {number}] ")
    with pytest.raises(type(error), match=text):
        raise error


def test_what_they_carry() -> None:
    lacking = NotSupported("NOP128", "Linux 6.19")
    assert (lacking.feature, lacking.needs) == ("NOP128", "Linux 6.19")
    refused = RingUnavailable(errno.EPERM, "ask root")
    assert (refused.hint, refused.strerror) == ("ask root", os.strerror(errno.EPERM))
    assert issubclass(ListenerNotReady, RuntimeError)
    assert isinstance(ListenerNotReady("not yet"), OSError)
    assert ListenerNotReady().errno == errno.EINVAL
    for refused in (
        error_from_result(-errno.EOPNOTSUPP),
        error_from_result(-errno.EOPNOTSUPP, "fallocate", 3),
    ):
        assert isinstance(refused, NotSupported)
        assert (refused.errno, refused.strerror) == (errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        copied = pickle.loads(pickle.dumps(refused))
        assert (type(copied), str(copied), copied.feature) == (type(refused), str(refused), refused.feature)


@pytest.mark.parametrize(
    "error",
    [
        *(row[0] for row in OWN),
        ListenerNotReady("not listening yet"),
        error_from_result(-errno.EPIPE, "send", 9, ("::1", 80)),
        error_from_result(-errno.ETIME),
        error_from_result(-512, "splice"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("filename", [None, "path"])
def test_survive_pickling_and_copying(error: Exception, filename: str | None) -> None:
    error = copy.copy(error)
    error.add_note("seen while testing")
    if filename is not None and isinstance(error, OSError):
        error.filename = filename
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is type(error)
        assert str(twin) == str(error)
        assert vars(twin) == vars(error)
        assert twin.args == error.args


# What to do about a refusal.


@pytest.fixture
def sysctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(advice, "_SYSCTL", tmp_path)
    return tmp_path


def test_forbidden_to_all(sysctl: Path) -> None:
    (sysctl / "io_uring_disabled").write_text("2\n")
    error = unavailable_from_errno(errno.EPERM)
    assert error.errno == errno.EPERM
    assert "kernel.io_uring_disabled is 2" in str(error)
    assert "set it to 0" in error.hint


@pytest.mark.parametrize(("group", "said"), [("-1", "-1"), ("1000", "1000"), (None, "not set")])
def test_forbidden_outside_a_group(sysctl: Path, group: str | None, said: str) -> None:
    (sysctl / "io_uring_disabled").write_text("1\n")
    if group is not None:
        (sysctl / "io_uring_group").write_text(f"{group}\n")
    hint = unavailable_from_errno(errno.EPERM).hint
    assert "kernel.io_uring_disabled is 1" in hint
    assert f"kernel.io_uring_group (now {said})" in hint


@pytest.mark.parametrize("setting", ["0\n", None])
@pytest.mark.parametrize("number", [errno.EPERM, errno.EACCES])
def test_forbidden_by_a_filter(sysctl: Path, setting: str | None, number: int) -> None:
    if setting is not None:
        (sysctl / "io_uring_disabled").write_text(setting)
    error = unavailable_from_errno(number)
    assert "seccomp" in error.hint
    assert "io_uring_setup" in error.hint
    assert error.errno == number


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (errno.ENOSYS, "CONFIG_IO_URING"),
        (errno.EMFILE, "RLIMIT_NOFILE"),
        (errno.ENFILE, "fs.file-max"),
        (errno.EINVAL, "Linux 6.18"),
        (errno.EAGAIN, "RLIMIT_MEMLOCK"),
        (errno.EIO, "io_uring_setup failed"),
    ],
)
def test_each_refusal_names_its_setting(number: int, text: str) -> None:
    error = unavailable_from_errno(number)
    assert text in error.hint
    assert text in str(error)
    assert error.errno == number


@pytest.mark.parametrize("call", ["io_uring_enter", "io_uring_register"])
@pytest.mark.parametrize("number", [errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EAGAIN, errno.EIO])
def test_a_refusal_names_its_call(sysctl: Path, call: str, number: int) -> None:
    (sysctl / "io_uring_disabled").write_text("2")  # which concerns the set-up alone
    hint = unavailable_from_errno(number, call).hint
    assert call in hint
    assert "io_uring_disabled" not in hint


@pytest.fixture
def process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the limits and the use of a process are read: nothing locked is counted, no cgroup."""
    monkeypatch.setattr(advice, "_PROCESS", tmp_path)
    monkeypatch.setattr(advice, "_CGROUPS", tmp_path / "cgroup-files")
    (tmp_path / "status").write_text("CapEff:\t000001ffffffffff\nVmSize:\t 1000 kB\nVmData:\t 10 kB\n")
    (tmp_path / "uid_map").write_text("         0          0 4294967295\n")
    monkeypatch.setattr("resource.getrlimit", lambda which: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return tmp_path


def limited(monkeypatch: pytest.MonkeyPatch, limits: dict[int, int]) -> None:
    def getrlimit(which: int) -> tuple[int, int]:
        return (limits.get(which, resource.RLIM_INFINITY), resource.RLIM_INFINITY)

    monkeypatch.setattr("resource.getrlimit", getrlimit)


def test_memory_without_a_limit(process: Path) -> None:
    assert unavailable_from_errno(errno.ENOMEM).hint == "the kernel has no memory left for it"


def test_locked_memory(process: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limited(monkeypatch, {resource.RLIMIT_MEMLOCK: 1 << 20})
    assert "MEMLOCK" not in unavailable_from_errno(errno.ENOMEM).hint, "who may lock memory has no limit"
    (process / "uid_map").write_text("0 1000 1\n")
    assert "RLIMIT_MEMLOCK (now 1024 KiB)" in unavailable_from_errno(errno.ENOMEM).hint
    (process / "uid_map").write_text("0 0 4294967295\n")
    (process / "status").write_text("CapEff:\t0000000000000000\n")
    assert "RLIMIT_MEMLOCK (now 1024 KiB)" in unavailable_from_errno(errno.ENOMEM).hint


@pytest.mark.parametrize(
    ("limit", "name"), [(resource.RLIMIT_AS, "RLIMIT_AS"), (resource.RLIMIT_DATA, "RLIMIT_DATA")]
)
def test_address_space(process: Path, monkeypatch: pytest.MonkeyPatch, limit: int, name: str) -> None:
    (process / "uid_map").write_text("0 1000 1\n")
    limited(monkeypatch, {limit: 5000 * 1024, resource.RLIMIT_MEMLOCK: 1 << 20})
    hint = unavailable_from_errno(errno.ENOMEM, memory=4 << 20).hint
    assert name in hint
    assert "of 5000 KiB" in hint
    assert "MEMLOCK" not in hint
    assert "MEMLOCK" in unavailable_from_errno(errno.ENOMEM, memory=1 << 20).hint, "there is room for that"


@pytest.mark.parametrize(
    ("line", "folder", "most", "used"),
    [
        ("0::/a/b", "a", "memory.max", "memory.current"),
        ("4:cpu,memory:/a/b", "memory/a", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ],
)
def test_a_memory_cgroup(process: Path, line: str, folder: str, most: str, used: str) -> None:
    (process / "cgroup").write_text(f"1:name=systemd:/x\n{line}\n")
    above = process / "cgroup-files" / folder
    (above / "b").mkdir(parents=True)
    (above / "b" / most).write_text("max\n")
    (above / "b" / used).write_text("5\n")
    (above / most).write_text(f"{100 << 20}\n")
    (above / used).write_text(f"{98 << 20}\n")
    hint = unavailable_from_errno(errno.ENOMEM, memory=4 << 20).hint
    assert hint.startswith("the memory cgroup /a leaves 2048 KiB of 102400 KiB")
    assert "cgroup" not in unavailable_from_errno(errno.ENOMEM, memory=1 << 19).hint
