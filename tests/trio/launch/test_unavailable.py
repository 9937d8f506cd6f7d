"""Where a ring cannot be had: a run fails before its first task, or falls back to epoll, and says why.

Each refusal is the kernel's: a seccomp filter, or a limit, put upon a process of its own.
"""

import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from uring.abi import (
    IORING_REGISTER_EVENTFD,
    IORING_REGISTER_IOWQ_MAX_WORKERS,
    IORING_REGISTER_PBUF_RING,
    IORING_REGISTER_PBUF_STATUS,
)

REFUSE = Path(__file__).parents[2] / "refuse.py"
SETUP, ENTER, REGISTER = 425, 426, 427

# Each way into a run, with what it does about the refusal; a task says which backend it is on.
EVERY_WAY = """
import queue, warnings
import anyio, trio, uring_trio, uring_trio.anyio

started = []

async def main():
    started.append(True)
    await trio.sleep(0.001)
    return trio.lowlevel.current_statistics().io_statistics.backend

def guest(start, **options):
    todo, done = queue.SimpleQueue(), []
    start(main, run_sync_soon_threadsafe=todo.put, done_callback=done.append, **options)
    while not done:
        todo.get()()
    return done[0].unwrap()

def refused(start):
    try:
        start()
    except uring_trio.RingUnavailable as exc:
        assert not started
        return exc
    raise AssertionError("not refused")

each = [
    refused(lambda: uring_trio.run(main)),
    refused(lambda: guest(uring_trio.start_guest_run)),
    refused(uring_trio.install),
    refused(lambda: anyio.run(main, backend="uring")),
]
assert len({str(exc) for exc in each}) == 1, each
print(each[0])
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    found = [
        uring_trio.run(main, unavailable="epoll"),
        guest(uring_trio.start_guest_run, unavailable="epoll"),
        anyio.run(main, backend="uring", backend_options={"unavailable": "epoll"}),
    ]
    uring_trio.install(unavailable="epoll")
    found += [trio.run(main), guest(trio.lowlevel.start_guest_run)]
print(*found)
print([str(each.message) for each in caught])
"""


def python(program: str, *before: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *before, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )


def filtered(program: str, *rules: tuple[int, int, int], **environment: str) -> list[str]:
    done = python(program, str(REFUSE), json.dumps(rules), **environment)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


CALLS = {
    "setup": (SETUP, -1),
    "enter": (ENTER, -1),
    "register": (REGISTER, -1),
    "buffers": (REGISTER, int(IORING_REGISTER_PBUF_RING)),
    "eventfd": (REGISTER, int(IORING_REGISTER_EVENTFD)),
}
NAMES = {SETUP: "io_uring_setup", ENTER: "io_uring_enter", REGISTER: "io_uring_register"}
FORBIDDEN = (errno.EPERM, errno.ENOSYS, errno.EACCES)
# Set-up is interrupted or out of something in earnest too. EINVAL is what the kernel says of news to it.
REFUSALS = [(call, number) for call in ("setup", "enter", "register") for number in FORBIDDEN] + [
    ("buffers", errno.EPERM),
    ("eventfd", errno.EPERM),
    ("setup", errno.EINTR),
    ("setup", errno.EAGAIN),
    ("setup", errno.EINVAL),
    ("enter", errno.EINVAL),
    ("register", errno.EINVAL),
    ("enter", errno.EAGAIN),
    ("register", errno.ENOTSUP),
]


@pytest.mark.parametrize(
    ("call", "number"), REFUSALS, ids=[f"{call}-{errno.errorcode[number]}" for call, number in REFUSALS]
)
def test_a_filter_that_refuses_one_call(call: str, number: int) -> None:
    rule = (*CALLS[call], number)
    text, backends, warned = filtered(EVERY_WAY, rule)
    assert text.startswith(f"[Errno {number}] {os.strerror(number)}: io_uring is not available: ")
    if number in (errno.EPERM, errno.EACCES):
        assert f"forbids {NAMES[rule[0]]}" in text
        assert "seccomp profile" in text
    elif (call, number) != ("setup", errno.EINVAL):
        assert NAMES[rule[0]] in text
    assert backends == "epoll epoll epoll epoll epoll"
    assert warned == str([f"running on epoll: {text}"])


@pytest.mark.parametrize("call", CALLS)
def test_the_environment_chooses_epoll(call: str) -> None:
    program = (
        "import warnings; warnings.simplefilter('ignore')\n"
        "import trio\n"
        "async def main(): print(trio.lowlevel.current_statistics().io_statistics.backend)\n"
        "trio.run(main)"
    )
    rule = (*CALLS[call], errno.EPERM)
    assert filtered(program, rule, URING_TRIO="unavailable=epoll") == ["epoll"]
    done = python(program, str(REFUSE), json.dumps([rule]), URING_TRIO="1")
    assert done.returncode == 1
    assert re.search(r"RingUnavailable: .*seccomp", done.stderr.splitlines()[-1])
    assert "TrioInternalError" not in done.stderr


@pytest.mark.parametrize("call", CALLS)
def test_the_doctor_agrees(call: str) -> None:
    rules = json.dumps([(*CALLS[call], errno.EACCES)])
    done = subprocess.run(
        [sys.executable, str(REFUSE), rules, "-m", "uring", "--json"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    report = json.loads(done.stdout)
    assert (done.returncode, done.stderr, report["usable"], report["errno"]) == (1, "", False, "EACCES")
    assert f"forbids {NAMES[CALLS[call][0]]}" in report["hint"]


@pytest.mark.parametrize("call", ["setup", "enter", "register"])
def test_a_low_level_ring_says_the_same(call: str) -> None:
    program = """
import uring
try:
    uring.Ring(entries=8)
except uring.RingUnavailable as exc:
    print(exc.errno, exc.hint)
"""
    (said,) = filtered(program, (*CALLS[call], errno.EPERM))
    assert said.startswith(f"1 a seccomp filter or security module forbids {NAMES[CALLS[call][0]]}")


def test_what_a_run_can_do_without() -> None:
    """A filter that refuses the figures of the kernel's workers, and giving memory back, stops nothing."""
    program = """
import trio, uring_trio
from uring_trio.core import engine
async def main():
    ring = trio.lowlevel.current_statistics().io_statistics
    buffers = engine.current().buffers
    print(ring.backend, ring.workers, buffers.grow() != [], buffers.shrink(16))
uring_trio.run(main)
"""
    said = filtered(
        program,
        (REGISTER, int(IORING_REGISTER_IOWQ_MAX_WORKERS), errno.EPERM),
        (REGISTER, int(IORING_REGISTER_PBUF_STATUS), errno.EPERM),
    )
    assert said == ["io_uring 0 True []"]


# ---- memory ------------------------------------------------------------------------------------------

LIMIT = """
import os, resource, sys, trio, uring_trio, warnings
uring_trio.run  # loaded when asked for
warnings.simplefilter("ignore")
async def main():
    return trio.lowlevel.current_statistics().io_statistics.backend
used = int(next(line for line in open("/proc/self/status") if line.startswith({used!r})).split()[1])
room = used * 1024 + (8 << 20)  # for the interpreter, and less than the receive buffers of a run
resource.setrlimit(resource.{limit}, (room, room))
try:
    print(uring_trio.run(main, {arguments}))
except uring_trio.RingUnavailable as exc:
    print(exc.errno, exc.hint)
"""


@pytest.mark.parametrize(("limit", "used"), [("RLIMIT_AS", "VmSize:"), ("RLIMIT_DATA", "VmData:")])
def test_too_little_address_space(limit: str, used: str) -> None:
    def said(arguments: str) -> str:
        done = python(LIMIT.format(limit=limit, used=used, arguments=arguments))
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.strip()

    refused = said("")
    assert refused.startswith(f"{errno.ENOMEM} {limit}, the limit of ")
    assert "MEMLOCK" not in refused
    assert said("unavailable='epoll'") == "epoll"
    assert said("ring=uring_trio.RingOptions(entries=8, buffers=16, buffer_size=4096)") == "io_uring"
