"""The seccomp profile that the documents give to containers, in force: a ring runs under it, and under the
same profile without the ring's rule a program gets EPERM and can fall back, as in a container of today."""

from __future__ import annotations

import errno
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PROFILE = ROOT / "docs" / "containers" / "seccomp.json"
REFUSE = ROOT / "tests" / "refuse.py"
RING = {"io_uring_enter", "io_uring_register", "io_uring_setup"}
# Calls that break out of a container, or concern the machine and not the service.
DANGEROUS = {
    "bpf", "delete_module", "init_module", "kexec_load", "mount", "open_by_handle_at", "perf_event_open",
    "pivot_root", "ptrace", "reboot", "setns", "umount2", "unshare", "userfaultfd",
}  # fmt: skip

SERVICE = """
import sys, trio

async def echo(stream):
    async for data in stream:
        await stream.send_all(data)

async def main():
    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(lambda task_status: trio.serve_tcp(
            echo, 0, host="127.0.0.1", task_status=task_status))
        async with await trio.open_tcp_stream(*listener.socket.getsockname()) as stream:
            await stream.send_all(b"over TCP")
            assert await stream.receive_some() == b"over TCP"
        assert await trio.to_thread.run_sync(lambda: 5) == 5
        done = await trio.run_process([sys.executable, "-c", "print(6)"], capture_stdout=True)
        assert done.stdout == b"6\\n"
        async with await trio.open_file(sys.executable, "rb") as file:
            assert (await file.read(4)) == b"\\x7fELF"
        print(trio.lowlevel.current_statistics().io_statistics.backend)
        nursery.cancel_scope.cancel()

trio.run(main)
"""


def profile() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(PROFILE.read_text())
    return found


def rules(found: dict[str, Any], *names: str) -> Iterator[dict[str, Any]]:
    for rule in found["syscalls"]:
        if set(names) & set(rule["names"]):
            yield rule


def run(found: dict[str, Any], variable: str, program: str = SERVICE) -> subprocess.CompletedProcess[str]:
    """A program that knows nothing of the ring, under a profile."""
    return subprocess.run(
        [sys.executable, str(REFUSE), "--profile", json.dumps(found), "-W", "default", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": "/usr/bin:/bin", "URING_TRIO": variable},
    )


def test_is_what_container_runtimes_read() -> None:
    found = profile()
    assert found["defaultAction"] == "SCMP_ACT_ERRNO"
    assert found["defaultErrnoRet"] == errno.EPERM
    assert {entry["architecture"] for entry in found["archMap"]} == {"SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"}
    for rule in found["syscalls"]:
        assert rule["action"] in ("SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO")
        assert rule["names"] == sorted(set(rule["names"]))
        assert rule.keys() <= {"names", "action", "args", "comment", "errnoRet"}
        for argument in rule.get("args", ()):
            assert argument.keys() <= {"index", "value", "valueTwo", "op"}


def test_allows_the_ring_and_nothing_dangerous() -> None:
    allowed = {
        name
        for rule in profile()["syscalls"]
        if rule["action"] == "SCMP_ACT_ALLOW" and "args" not in rule
        for name in rule["names"]
    }
    assert allowed >= RING
    assert not allowed & DANGEROUS


def test_a_service_runs_on_the_ring_under_it() -> None:
    done = run(profile(), "1")
    assert (done.stderr, done.stdout) == ("", "io_uring\n")


def test_a_stat_is_answered_at_once_under_it(tmp_path: Path) -> None:
    ask = f"from uring.cached import find_stat; print(find_stat({str(tmp_path)!r}, True) is not None)"
    done = run(profile(), "0", ask)
    assert (done.stderr, done.stdout) == ("", "True\n")


def test_what_it_forbids_is_refused() -> None:
    calls = "import ctypes; libc = ctypes.CDLL(None, use_errno=True)\n" + "".join(
        f"print({call}, ctypes.get_errno())\n"
        for call in ("libc.unshare(0x10000000)", "libc.mount(0, b'/', 0, 0x1000, 0)", "libc.socket(40, 1, 0)")
    )
    done = run(profile(), "0", calls)
    assert (done.stderr, done.stdout.split()) == ("", ["-1", str(errno.EPERM)] * 3)


@pytest.mark.parametrize("variable", ["1", "unavailable=epoll"])
def test_without_the_rings_rule_it_is_refused_with_eperm(variable: str) -> None:
    without = profile()
    without["syscalls"] = [rule for rule in without["syscalls"] if rule not in list(rules(without, *RING))]
    done = run(without, variable)
    if variable == "1":
        assert done.returncode == 1
        assert re.search(r"RingUnavailable: \[Errno 1\] .*seccomp", done.stderr.splitlines()[-1])
    else:
        assert (done.returncode, done.stdout) == (0, "epoll\n")
        assert len(re.findall("RuntimeWarning: running on epoll", done.stderr)) == 1
