"""Where a ring is refused, the error says which setting or limit to change."""

import errno
import resource
from pathlib import Path

import pytest

from uring import advice
from uring.errors import unavailable_from_errno


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
