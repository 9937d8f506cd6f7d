"""``python -m tests.faults``: each error at each system call of the extensions in programs, by `inject.c`.

An error changes nothing, or an `OSError` tells it. A hang, another answer, a leaked
descriptor or a crash is a failure, and says the fault.
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import gc
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import traceback
import warnings
from math import inf
from pathlib import Path
from time import monotonic
from typing import Any

HERE = Path(__file__).parent
ENTER = "io_uring_enter"
SHORT = -1
PASSING = ("EINTR", "EAGAIN", "EBUSY", "ENOMEM", "SHORT")
"""Errors of an enter that change nothing."""

SETTING_UP = ("EINTR", "ENOMEM", "EPERM", "EBUSY")
CALLS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    ENTER: (PASSING, ("EBADR", "EINVAL", "EFAULT")),
    "io_uring_setup": ((), SETTING_UP),
    "io_uring_register": ((), SETTING_UP),
    "mmap": ((), ("ENOMEM", "EAGAIN", "EPERM")),
    "madvise": (("ENOMEM", "EINVAL"), ()),
    "close": (("EINTR",), ("EIO",)),
    "preadv2": (("EAGAIN", "EOPNOTSUPP"), ("EINTR", "EIO")),
    "openat2": (("EAGAIN", "EINTR", "ENOSYS", "EPERM", "EMFILE"), ("EIO",)),
    "name_to_handle_at": (("EINTR", "EOPNOTSUPP", "EPERM", "ENOMEM"), ()),
    "statmount": (("EINTR", "ENOSYS", "EPERM", "ENOMEM"), ()),
    "fstat": (("EINTR", "EIO"), ()),
    "recv": (("EINTR", "EAGAIN"), ("ENOMEM", "ECONNRESET")),
    "recvfrom": (("EINTR", "EAGAIN"), ("ENOMEM", "ECONNREFUSED")),
    "send": (("EINTR", "EAGAIN"), ("ENOMEM", "ENOBUFS", "EPIPE")),
    "accept4": (("EINTR", "EAGAIN", "ECONNABORTED", "EMFILE"), ()),
    "ioctl": (("EINVAL",), ()),
    "getsockopt": ((), ("ENOPROTOOPT", "ENOMEM")),
    "fcntl": (("EINVAL",), ()),
}
"""The calls, each with the errors that change nothing, and with those that a program may be told of."""

FOREVER = 1 << 60


def number(name: str) -> int:
    return SHORT if name == "SHORT" else int(getattr(errno, name))


def build(folder: str) -> str:
    """The library, compiled where it is needed."""
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    compiler = compiler if shutil.which(compiler) else "cc"
    library = f"{folder}/inject.so"
    command = [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o", library]
    subprocess.run([*command, str(HERE / "inject.c"), "-ldl"], check=True)
    return library


def begin(arguments: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs this module in a process with the library before all others."""
    with tempfile.TemporaryDirectory() as folder:
        # A ring whose last enter fails for good stays open, which `make sanitize` is not to take for a leak.
        environment = {**os.environ, "LD_PRELOAD": build(folder), "KEEPS_RINGS": "1"}
        return subprocess.run(
            [sys.executable, "-X", "faulthandler", "-m", "tests.faults", "--inside", *arguments],
            cwd=HERE.parents[1],
            env=environment,
            text=True,
            **options,
        )


class Faults:
    """What the next calls give."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None)
        self._library.faults_calls.restype = ctypes.c_long
        self._library.faults_arm.argtypes = [ctypes.c_int, ctypes.c_long, ctypes.c_long, ctypes.c_int]
        self._library.faults_name.restype = ctypes.c_char_p
        self._kinds: dict[str, int] = {}
        while name := self._library.faults_name(len(self._kinds)):
            self._kinds[name.decode()] = len(self._kinds)
        assert self._kinds.keys() == CALLS.keys()

    def arm(self, call: str, first: int, error: int, last: int | None = None) -> None:
        self._library.faults_arm(self._kinds[call], first, first if last is None else last, error)

    def none(self) -> None:
        for call in CALLS:
            self.arm(call, 0, 0)

    def calls(self, call: str) -> int:
        return int(self._library.faults_calls(self._kinds[call]))


def files_open() -> int:
    return len(os.listdir("/proc/self/fd"))


class Trial:
    """Plays the programs under faults."""

    def __init__(self, step: int, seconds: float) -> None:
        self.until = monotonic() + seconds
        from .programs import PROGRAMS

        self.programs = PROGRAMS
        self.faults = Faults()
        self.step = step
        self.played = 0
        self.failed: list[str] = []
        self.ended = False

    def play(self, name: str, wanted: Any, told: str, *, passing: bool) -> None:
        """The program gives its answer and leaves nothing open, or fails as a fault may."""
        if monotonic() > self.until:
            self.faults.none()
            return
        if self.ended:
            gc.collect()  # what the error of the one before has left open
        self.ended, before = False, files_open()
        self.played += 1
        try:
            with warnings.catch_warnings(record=True) as warned:
                warnings.simplefilter("always", ResourceWarning)
                got = self.programs[name]()
            if got != wanted:
                self.failed.append(f"{name}, {told}: {got!r} instead of {wanted!r}")
        except BaseException as exc:
            self.faults.none()
            self.ended = True
            if passing or not reasoned(exc):
                self.failed.append(f"{name}, {told}: {''.join(traceback.format_exception(exc))[-3000:]}")
            return
        finally:
            self.faults.none()
        left_with_a_reason = not passing and bool(warned)  # the last enter of a ring fails: it stays open
        if files_open() != before and not left_with_a_reason:
            self.failed.append(f"{name}, {told}: {files_open() - before} descriptors more")

    def all_of(self, name: str) -> None:
        self.faults.none()
        wanted = self.programs[name]()
        made = {call: self.faults.calls(call) for call in CALLS}
        for call, (passing, told) in CALLS.items():
            for error in passing + told:
                for which in range(1, made[call] + 1, self.step if call == ENTER else 1):
                    self.faults.arm(call, which, number(error))
                    what = f"{error} at {call} {which} of {made[call]}"
                    self.play(name, wanted, what, passing=error in passing)


def reasoned(exc: BaseException) -> bool:
    """Whether an OSError is at the bottom of it, which names what failed."""
    seen: BaseException | None = exc
    while seen is not None:
        if isinstance(seen, OSError):
            return True
        if isinstance(seen, BaseExceptionGroup):
            return all(reasoned(each) for each in seen.exceptions)
        seen = seen.__cause__ or seen.__context__
    return False


def refused() -> int:
    """A call under a deadline, where the ring cannot be entered from its beginning on."""
    import trio

    import uring_trio
    from uring_trio.core import draining

    draining.DRAIN_SECONDS = 0.5
    warnings.simplefilter("ignore", ResourceWarning)

    async def main() -> bool:
        near, far = trio.socket.socketpair()
        with near, far:
            Faults().arm(ENTER, 1, errno.EAGAIN, FOREVER)
            with trio.move_on_after(0.05) as scope:
                await near.recv(10)
            return scope.cancelled_caught

    print(f"cancelled {uring_trio.run(main)}, then ended", flush=True)
    return 0


def inside(options: argparse.Namespace) -> int:
    if options.refused:
        return refused()
    sys.unraisablehook = lambda _: None  # frames that a run's error left behind say so as they go
    trial, began = Trial(options.step, options.seconds), monotonic()
    for name in options.only or trial.programs:
        trial.all_of(name)
        print(f"{name}: {trial.played} faults so far, {monotonic() - began:.0f} s", flush=True)
    for failure in trial.failed:
        print(failure)
    print(f"{trial.played} faults, {len(trial.failed)} failures")
    return int(bool(trial.failed))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--only", action="append", help="this program; may be repeated")
    parser.add_argument("--step", type=int, default=1, help="every so many calls only")
    parser.add_argument("--seconds", type=float, default=inf, help="after which no further fault is tried")
    parser.add_argument("--refused", action="store_true", help="every enter fails, under a deadline")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        return inside(options)
    status = begin(sys.argv[1:]).returncode
    if status not in (0, 1):
        print(f"ended with status {status}")
    return status


if __name__ == "__main__":
    sys.exit(main())
