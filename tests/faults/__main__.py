"""``python -m tests.faults``: each error at each call of each program, with `inject.c` before the C library.

An error changes nothing, or it ends the run with an exception that says why. A hang, another answer, a leaked
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
SETUP, ENTER, REGISTER = range(3)
NAMES = ("io_uring_setup", "io_uring_enter", "io_uring_register")
SHORT = -1
PASSING = ("EINTR", "EAGAIN", "EBUSY", "ENOMEM", "SHORT")
"""What an enter may fail with that changes nothing."""

FINAL = ("EBADR", "EINVAL", "EFAULT")
"""What ends the run with an error."""

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
        environment = {**os.environ, "LD_PRELOAD": build(folder)}
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

    def arm(self, kind: int, first: int, error: int, last: int | None = None) -> None:
        self._library.faults_arm(kind, first, first if last is None else last, error)

    def none(self) -> None:
        for kind in range(3):
            self._library.faults_arm(kind, 0, 0, 0)

    def calls(self, kind: int) -> int:
        return int(self._library.faults_calls(kind))


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

    def play(self, name: str, wanted: Any, told: str) -> None:
        """The program gives its answer or a reasoned error, and leaves nothing open."""
        if monotonic() > self.until:
            self.faults.none()
            return
        before = files_open()
        self.played += 1
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ResourceWarning)
                got = self.programs[name]()
            if wanted is not None and got != wanted:
                self.failed.append(f"{name}, {told}: {got!r} instead of {wanted!r}")
        except BaseException as exc:
            self.faults.none()
            if wanted is not None or not reasoned(exc):
                self.failed.append(f"{name}, {told}: {''.join(traceback.format_exception(exc))[-3000:]}")
                return
        finally:
            self.faults.none()
        if wanted is not None and files_open() != before:
            self.failed.append(f"{name}, {told}: {files_open() - before} descriptors more")

    def all_of(self, name: str) -> None:
        self.faults.none()
        gc.collect()  # what the errors of the program before have left open
        wanted = self.programs[name]()
        calls = [self.faults.calls(kind) for kind in range(3)]
        for error in PASSING:
            for call in range(1, calls[ENTER] + 1, self.step):
                self.faults.arm(ENTER, call, number(error))
                self.play(name, wanted, f"{error} at {NAMES[ENTER]} {call} of {calls[ENTER]}")
        for error in FINAL:
            for call in range(1, calls[ENTER] + 1, self.step):
                self.faults.arm(ENTER, call, number(error))
                self.play(name, None, f"{error} at {NAMES[ENTER]} {call} of {calls[ENTER]}")
        for kind in (SETUP, REGISTER):
            for error in ("EINTR", "ENOMEM", "EPERM", "EBUSY"):
                for call in range(1, calls[kind] + 1):
                    self.faults.arm(kind, call, number(error))
                    self.play(name, None, f"{error} at {NAMES[kind]} {call} of {calls[kind]}")


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
