"""The doctor, run as users run it: on this machine as it is, and where io_uring is refused.

The refusals are the kernel's own: a seccomp filter, or a limit on locked memory for a user without
privileges, set up in a process of its own which then becomes the doctor.
"""

import errno
import json
import os
import re
import resource
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

import uring
from uring.abi import (
    IORING_OP_NOP,
    IORING_OP_NOP128,
    IORING_REGISTER_PROBE,
    IORING_REGISTER_QUERY,
    Op,
    Setup,
)
from uring.errors import NotSupported, RingClosed
from uring.kernel.ring import KernelRing
from uring.opcodes import OPCODES
from uring.probe import Probe, probe

DOCTOR = ("-m", "uring")
REFUSE = Path(__file__).parents[1] / "refuse.py"
SETUP, ENTER, REGISTER = 425, 426, 427

# Examines a ring of so many entries as a user without privileges, who may lock so many bytes. It has no other
# processes, whose memory would count too. It becomes that user after importing, as it may be unable to read
# this installation.
UNPRIVILEGED = """
import json, os, resource, sys
from uring.__main__ import examine

entries, limit, user = int(sys.argv[1]), int(sys.argv[2]), (1 << 20) + os.getpid()
resource.setrlimit(resource.RLIMIT_MEMLOCK, (limit, limit))
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)
report = examine(entries)
print(json.dumps(report))
sys.exit(0 if report["usable"] else 1)
"""


def run(*args: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *args], capture_output=True, text=True, timeout=60, check=False, **options
    )


def run_filtered(*args: str, rules: list[tuple[int, int, int]]) -> subprocess.CompletedProcess[str]:
    return run(str(REFUSE), json.dumps(rules), *args)


def report_of(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.stderr == ""
    report = json.loads(done.stdout)
    assert done.returncode == (0 if report["usable"] else 1)
    return report  # type: ignore[no-any-return]


# ---- where io_uring works ------------------------------------------------------------------------------


def test_says_usable_and_names_what_there_is() -> None:
    done = run(*DOCTOR, env={**os.environ, "COLUMNS": "100"})
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "io_uring is usable here"
    assert f"kernel                    {os.uname().release} {os.uname().machine}" in lines
    assert "ring                      256 entries: opened, and a no-op completed" in lines
    for text in ("yes READ ", "yes DEFER_TASKRUN", "yes EXT_ARG", "yes PBUF_RING", "yes NO_IOWAIT"):
        assert text in done.stdout
    assert max(map(len, lines)) <= 100


def test_narrow_terminals_get_one_column() -> None:
    done = run(*DOCTOR, env={**os.environ, "COLUMNS": "20"})
    rows = [line for line in done.stdout.splitlines() if line.startswith(("  yes ", "   no "))]
    assert len(rows) >= len(OPCODES)


def test_json_agrees_with_the_probe() -> None:
    report = report_of(run(*DOCTOR, "--json"))
    assert report["usable"] is True
    assert report["problems"] == []
    found = probe()
    assert report["operations"] == {
        **{row.name: found.supports(row.number) for row in OPCODES},
        **{str(number): True for number in found.operations if number > max(Op)},
    }
    assert report["setup_flags"]["DEFER_TASKRUN"] is True
    named = {f"IORING_SETUP_{name}" for name, there in report["setup_flags"].items() if there}
    assert {flag.name for flag in Setup if flag & found.setup_flags} <= named
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    assert report["settings"]["memlock_soft"] == (None if limit == resource.RLIM_INFINITY else limit)
    for name in ("io_uring_disabled", "io_uring_group"):
        with open(f"/proc/sys/kernel/{name}") as file:
            assert report["settings"][name] == int(file.read())


def test_tries_the_size_it_is_told() -> None:
    assert report_of(run(*DOCTOR, "--json", "--entries", "32768"))["ring"]["entries"] == 32768


@pytest.mark.parametrize("args", [("--entries", "0"), ("--entries", "many"), ("--entries", "32769"), ("x",)])
def test_wrong_usage(args: tuple[str, ...]) -> None:
    done = run(*DOCTOR, *args)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "usage: python -m uring" in done.stderr


# ---- where it is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [SETUP, ENTER, REGISTER], ids=["setup", "enter", "register"])
@pytest.mark.parametrize(
    ("refusal", "advice"),
    [(errno.EPERM, "use a seccomp profile that allows"), (errno.ENOSYS, "CONFIG_IO_URING")],
    ids=["EPERM", "ENOSYS"],
)
def test_a_filter_is_named(number: int, refusal: int, advice: str) -> None:
    done = run_filtered(*DOCTOR, rules=[(number, -1, refusal)])
    assert (done.returncode, done.stderr) == (1, "")
    first, problem, *rest = done.stdout.splitlines()
    assert first == "io_uring is not usable here"
    assert os.strerror(refusal) in problem
    assert advice in problem
    assert "ring                      256 entries: refused" in rest
    assert any(line.startswith("seccomp ") and "filter" in line for line in rest)


def test_a_filter_in_json() -> None:
    report = report_of(run_filtered(*DOCTOR, "--json", rules=[(SETUP, -1, errno.EPERM)]))
    assert report["usable"] is False
    assert report["errno"] == "EPERM"
    assert "io_uring_setup" in report["hint"]
    assert report["settings"]["seccomp"] == "filter"
    assert report["settings"]["seccomp_filters"] >= 1
    assert "operations" not in report


def test_too_little_locked_memory() -> None:
    report = report_of(run("-c", UNPRIVILEGED, "256", "4096"))
    if report["usable"]:  # Linux 7.2 no longer counts the queues
        assert not os.uname().release.startswith("6.18.")
        return
    assert report["errno"] == "ENOMEM"
    assert "RLIMIT_MEMLOCK" in report["hint"]
    assert "(now 4 KiB)" in report["hint"]
    assert "LimitMEMLOCK" in report["hint"]
    assert report["settings"]["memlock_soft"] == report["settings"]["memlock_hard"] == 4096


def test_no_privileges_are_needed() -> None:
    assert report_of(run("-c", UNPRIVILEGED, "8", str(1 << 20)))["usable"] is True


def test_elsewhere_than_on_linux() -> None:
    pretend = "import runpy, sys; sys.platform = 'darwin'; runpy.run_module('uring', run_name='__main__')"
    done = run("-c", pretend)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout == "io_uring is a part of Linux; this is darwin.\n"


@pytest.mark.parametrize("name", ["uring._ffi", "uring._cached"])
def test_without_an_extension(name: str) -> None:
    hide = f"import runpy, sys; sys.modules[{name!r}] = None; runpy.run_module('uring', run_name='__main__')"
    done = run("-c", hide)
    assert (done.returncode, done.stderr) == (1, "")
    assert "the C extensions uring._ffi and uring._cached are missing, or one of them" in done.stdout


@pytest.mark.parametrize("name", ["uring._ffi", "uring._cached"])
@pytest.mark.parametrize("start", ["uring.Ring(entries=8)", "uring_trio.run(trio.sleep, 0)"])
def test_without_an_extension_only_opening_a_ring_fails(name: str, start: str) -> None:
    done = run("-c", f"import sys; sys.modules[{name!r}] = None; import trio, uring, uring_trio; {start}")
    assert done.returncode == 1
    assert re.search(
        "RingUnavailable: .*: io_uring is not available: the C ext", done.stderr.splitlines()[-1]
    )


# ---- the probe -----------------------------------------------------------------------------------------


def test_a_kernel_without_queries_is_asked_by_trying() -> None:
    told = report_of(run(*DOCTOR, "--json"))
    rules = [(REGISTER, int(IORING_REGISTER_QUERY), errno.EINVAL)]
    tried = report_of(run_filtered(*DOCTOR, "--json", rules=rules))
    assert tried["usable"] is False
    assert "Linux 6.18 or later is needed" in tried["problems"][0]
    assert "enter_flags" not in tried
    for flag in ("SQE_MIXED", "SQ_REWIND"):  # refused by name, so they cannot be tried
        told["setup_flags"].pop(flag, None)
        tried["setup_flags"].pop(flag, None)
    for key in ("operations", "setup_flags", "features"):
        assert tried[key] == with_names(told[key])
    assert tried["registrations"] == {**with_names(told["registrations"]), "QUERY": False}


def with_names(table: dict[str, bool]) -> dict[str, bool]:
    """What can be found by trying: a newer kernel tells of bits and numbers that have no name here."""
    return {name: there for name, there in table.items() if not name[0].isdecimal()}


def test_the_probe_is_remembered() -> None:
    first = probe()
    assert probe() is first
    with_ring = KernelRing(2, 0)
    with_ring.close()
    assert probe(with_ring) is first


def test_the_probe_asks_the_ring_it_is_given() -> None:
    source = """
from uring.abi import IORING_SETUP_R_DISABLED
from uring.errors import RingClosed
from uring.kernel import KernelRing
from uring.probe import probe

closed = KernelRing(2, 0)
closed.close()
try:
    probe(closed)
except RingClosed:
    print("closed")
ring = KernelRing(2, IORING_SETUP_R_DISABLED)
print(probe(ring).supports(0))
ring.close()
"""
    done = run("-c", source)
    assert (done.returncode, done.stdout, done.stderr) == (0, "closed\nTrue\n", "")


def test_what_is_not_there_is_refused_by_name() -> None:
    found = probe()
    found.require(IORING_OP_NOP)
    bare = Probe(
        operations=frozenset(),
        register_ops=frozenset(),
        features=found.features,
        setup_flags=found.setup_flags,
        enter_flags=found.enter_flags,
        entry_flags=found.entry_flags,
        queried=True,
    )
    assert not bare.supports(IORING_OP_NOP128)
    with pytest.raises(NotSupported) as raised:
        bare.require(IORING_OP_NOP128)
    assert (raised.value.feature, raised.value.needs) == ("IORING_OP_NOP128", "Linux 6.19")


def test_registering_on_a_closed_ring() -> None:
    ring = KernelRing(2, 0)
    ring.close()
    with pytest.raises(RingClosed):
        ring.register(IORING_REGISTER_PROBE, 0, 0)


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_reader_that_leaves_early_is_no_error(options: tuple[str, ...]) -> None:
    reads, writes = os.pipe()
    os.close(reads)
    try:
        done = subprocess.run(
            [sys.executable, *DOCTOR, *options], stdout=writes, stderr=subprocess.PIPE, check=False
        )
    finally:
        os.close(writes)
    assert (done.returncode, done.stderr) == (0, b"")


IN_NO_ENVIRONMENT = {
    "URING_TRIO": "1",
    "PYTHONPATH": f"{Path(uring.__file__).parents[1]}{os.pathsep}{sysconfig.get_path('purelib')}",
}


@pytest.mark.parametrize(
    ("interpreter", "environment", "why"),
    [
        ((sys.executable, "-I"), {"URING_TRIO": "1"}, "started with -E or -I"),
        ((sys.executable, "-S"), IN_NO_ENVIRONMENT, "started with -S"),
        ((getattr(sys, "_base_executable", sys.executable),), IN_NO_ENVIRONMENT, "reads no .pth files in"),
    ],
)
def test_says_why_the_variable_has_no_effect(
    interpreter: tuple[str, ...], environment: dict[str, str], why: str
) -> None:
    def lines(*options: str) -> str:
        command = [*interpreter, *DOCTOR, *options]
        return subprocess.run(
            command, env={**os.environ, **environment}, capture_output=True, text=True, check=True
        ).stdout

    (warning,) = json.loads(lines("--json"))["warnings"]
    assert warning.startswith("URING_TRIO=1 has no effect: ")
    assert why in warning
    assert f"  warning: {warning}" in lines().splitlines()


@pytest.mark.parametrize("value", ["", "0", "1"])
def test_has_no_warning_where_the_variable_is_obeyed(value: str) -> None:
    done = run(*DOCTOR, "--json", env={**os.environ, "URING_TRIO": value})
    assert json.loads(done.stdout)["warnings"] == []
