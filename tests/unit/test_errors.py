"""Results become Python's own exceptions, and refusals say what to change."""

import copy
import errno
import os
import pickle
from pathlib import Path

import pytest

from uring import errors
from uring.errors import (
    CQOverflow,
    ListenerNotReady,
    NotSupported,
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
    (errno.EOPNOTSUPP, OSError),
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
    monkeypatch.setattr(errors, "_SYSCTL", tmp_path)
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
        (errno.ENOMEM, "RLIMIT_MEMLOCK"),
        (errno.EMFILE, "RLIMIT_NOFILE"),
        (errno.ENFILE, "fs.file-max"),
        (errno.EINVAL, "Linux 6.18"),
    ],
)
def test_each_refusal_names_its_setting(number: int, text: str) -> None:
    error = unavailable_from_errno(number)
    assert text in error.hint
    assert text in str(error)
    assert error.errno == number


def test_unexpected_refusal_has_no_advice() -> None:
    error = unavailable_from_errno(errno.EIO)
    assert error.hint == ""
    assert str(error) == f"[Errno {errno.EIO}] {os.strerror(errno.EIO)}: io_uring is not available"
