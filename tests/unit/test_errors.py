"""Results become Python's own exceptions."""

import copy
import errno
import os
import pickle

import pytest

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
