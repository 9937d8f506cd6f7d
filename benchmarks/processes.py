"""The processes of a measurement: C programs built on the spot, servers under test, load generators.

Invariants: every process started here is killed by its pid when its `with` block is left, whatever the
reason; none of them shares our terminal's signals, so Ctrl-C reaches us alone and we end them; each also ends
by itself when its standard input does, so that even a killed harness leaves nothing behind.
"""

from __future__ import annotations

import hashlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent
CACHE = HERE.parent / ".cache" / "benchmarks"
ANSWER_SECONDS = 30
SET_UP_SECONDS = 120  # many connections on a busy machine
NO_COMPILER = (
    "A C compiler and the C library's headers are needed: install the packages gcc and libc6-dev "
    "(Debian, Ubuntu: apt install gcc libc6-dev; Fedora: dnf install gcc glibc-devel)."
)


BODIES = {"text": 13, "file": 65536, "large": 1 << 20}
"""What an HTTP server answers at each of these paths, in bytes."""


class BenchmarkError(Exception):
    """Something that makes a measurement worthless: the message says what."""


@dataclass(frozen=True)
class LoadResult:
    """What the load generator saw; `mismatches` counts answers that were not the bytes sent."""

    requests: int
    seconds: float
    p50_us: float
    p99_us: float
    bytes: int
    errors: int
    mismatches: int
    client_cpu_us: float


def cores() -> tuple[int, int]:
    """The core for the server and the one for the clients; the same one where there is only one."""
    available = sorted(os.sched_getaffinity(0))
    return available[0], available[-1]


def build(name: str, *flags: str) -> Path:
    """Compile `name`.c once per source text and return the program, or what else `flags` make of it.

    Raises:
        BenchmarkError: there is no compiler, or it lacks the headers.
    """
    source = HERE / f"{name}.c"
    program = CACHE / f"{name}-{hashlib.sha256(source.read_bytes()).hexdigest()[:16]}"
    if program.exists():
        return program
    compiler = shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise BenchmarkError(NO_COMPILER)
    CACHE.mkdir(parents=True, exist_ok=True)
    unfinished = program.with_suffix(f".{os.getpid()}")
    command = [compiler, "-O2", *flags, "-o", str(unfinished), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        if "No such file" in done.stderr:
            raise BenchmarkError(NO_COMPILER)
        raise BenchmarkError(f"{compiler} cannot build {source.name}:\n{done.stderr}")
    unfinished.rename(program)
    return program


def body(name: str) -> Path:
    """The file with the bytes of one of `BODIES`, the same for server and clients."""
    path = CACHE / f"body-{name}-{BODIES[name]}"
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}")
        unfinished.write_bytes((b"".join(b"%8d" % n for n in range(BODIES[name] // 8 + 1)))[: BODIES[name]])
        unfinished.rename(path)
    return path


class Process:
    """A child that answers with JSON lines on its standard output."""

    def __init__(self, name: str, command: list[str], core: int | None) -> None:
        self.name = name
        self._child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=HERE.parent, start_new_session=True
        )
        self.pid = self._child.pid
        self._pending = b""
        if core is not None:
            os.sched_setaffinity(self.pid, {core})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._child.kill()
        self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    pass

    def tell(self, line: str) -> None:
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(line.encode() + b"\n")
            self._child.stdin.flush()
        except BrokenPipeError:
            raise BenchmarkError(f"{self.name} has ended: {self._child.wait()}") from None

    def line(self, seconds: float = ANSWER_SECONDS) -> str:
        """The next line of the child's output.

        Raises:
            BenchmarkError: it ended or said nothing for so long.
        """
        assert self._child.stdout is not None
        fd = self._child.stdout.fileno()
        limit = time.monotonic() + seconds
        while b"\n" not in self._pending:
            ready, _, _ = select.select([fd], [], [], max(0.0, limit - time.monotonic()))
            if not ready:
                raise BenchmarkError(f"{self.name} (pid {self.pid}) has not answered for {seconds:.0f} s")
            data = os.read(fd, 65536)
            if not data:
                raise BenchmarkError(f"{self.name} ended with status {self._child.wait()}")
            self._pending += data
        line, _, self._pending = self._pending.partition(b"\n")
        return line.decode()

    def cpu(self) -> float:
        """CPU seconds of all its threads, kernel workers and ended threads included.

        The kernel's process clock (`clock_getcpuclockid`) has nanoseconds where /proc/PID/stat has ticks.
        """
        return time.clock_gettime((~self.pid << 3) | 2)

    def ticks(self) -> tuple[int, int]:
        """CPU time in user space and in the kernel, of the same threads, in the ticks of /proc/PID/stat.

        The kernel looks at each of its timer's interrupts, mostly 250 a second, where the process is, and
        parts the time of `cpu` by that.
        """
        after_name = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return int(after_name[11]), int(after_name[12])


class Server(Process):
    """One contender serving: see `benchmarks.servers` for the names."""

    def __init__(self, contender: str, core: int | None = None) -> None:
        if contender == "c-ring":
            command = [str(build("echo_ring"))]
        else:
            command = [sys.executable, "-m", "benchmarks.servers", contender]
        super().__init__(contender, command, core)

    def __enter__(self) -> Self:
        try:
            self.port: int = json.loads(self.line())["port"]
        except BaseException:
            self.__exit__()
            raise
        return self

    def statistics(self) -> dict[str, Any]:
        """What the server's I/O manager says about itself (Trio servers only)."""
        self.tell("statistics")
        answer: dict[str, Any] = json.loads(self.line())
        return answer


class Load(Process):
    """A load generator: connected when its `with` block is entered, and idle until `start`.

    Messages of ``size`` bytes that come back, or HTTP requests for one of `BODIES` on connections kept alive;
    ``http2`` asks without TLS.
    """

    def __init__(
        self,
        port: int,
        *,
        connections: int = 1,
        size: int = 1024,
        seconds: float = 1.0,
        think: int = 0,
        churn: bool = False,
        http: str | None = None,
        http2: bool = False,
        progress_ms: int = 0,
        core: int | None = None,
    ) -> None:
        program = [sys.executable, "-m", "benchmarks.load_h2"] if http2 else [str(build("load"))]
        command = [*program, "--port", str(port), "--connections", str(connections)]
        command += ["--size", str(size), "--seconds", str(seconds), "--think", str(think)]
        command += ["--progress", str(progress_ms)] + ["--churn"] * churn
        if http is not None:
            command += ["--http", f"/{http}", "--body", str(body(http))]
        super().__init__("the load generator", command, core)
        self._limit = seconds + ANSWER_SECONDS

    def __enter__(self) -> Self:
        try:
            if self.line(SET_UP_SECONDS) != "ready":
                raise BenchmarkError("the load generator is not the one this harness knows")
        except BaseException:
            self.__exit__()
            raise
        return self

    def start(self) -> None:
        self.tell("go")

    def result(self, on_progress: Callable[[int], object] = lambda requests: None) -> LoadResult:
        """Wait for the end of the measured part, which `start` has begun."""
        while True:
            answer = json.loads(self.line(self._limit))
            if "progress" not in answer:
                return LoadResult(**{f.name: answer[f.name] for f in fields(LoadResult)})
            on_progress(answer["progress"])


def exit_on_terminate() -> None:
    """Let SIGTERM unwind the `with` blocks as Ctrl-C does, so that children are ended then too."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
