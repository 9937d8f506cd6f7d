"""`top` in a terminal: it draws, draws again after changes, and Ctrl-C leaves the terminal as it was."""

from __future__ import annotations

import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from contextlib import contextmanager
from fcntl import ioctl
from typing import TYPE_CHECKING

from tests.trio.live.test_live import end, folder, service

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["folder"]

ROWS, COLUMNS = 40, 140
SECONDS = 60
ALTERNATE, NORMAL = "\x1b[?1049h", "\x1b[?1049l"
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """What a program has written to its terminal."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.text = ""

    def read_until(self, pattern: str) -> re.Match[str]:
        """Reads on until the text, without escapes, has a match."""
        while not (found := re.search(pattern, ESCAPE.sub("", self.text))):
            more = self.read()
            assert more, self.text
        return found

    def read(self) -> str:
        try:
            more = os.read(self.fd, 1 << 16).decode(errors="replace")
        except OSError:  # EIO: the other side is closed
            return ""
        self.text += more
        return more


@contextmanager
def top(pid: int) -> Iterator[tuple[Terminal, subprocess.Popen[bytes]]]:
    ours, its = pty.openpty()
    try:
        ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        before = termios.tcgetattr(its)
        process = subprocess.Popen(
            [sys.executable, "-m", "uring_trio", "top", str(pid), "--interval", "0.05"],
            stdin=its,
            stdout=its,
            stderr=its,
            env={**os.environ, "TERM": "xterm-256color"},
            start_new_session=True,
        )
        with process:
            try:
                yield Terminal(ours), process
            finally:
                process.kill()
        assert termios.tcgetattr(its) == before
    finally:
        os.close(ours)
        os.close(its)


def test_draws_until_ctrl_c(folder: Path) -> None:
    started = service(folder, monitor=True)
    try:
        with top(started.pid) as (terminal, process):
            terminal.read_until("recv_multishot")
            assert ALTERNATE in terminal.text
            assert f"process {started.pid}" in ESCAPE.sub("", terminal.text)
            # The next pictures have a rate: this view's own looks are system calls of the service.
            terminal.read_until(r"system calls [1-9]")
            process.send_signal(signal.SIGINT)
            while NORMAL not in terminal.text:
                assert terminal.read(), terminal.text
            assert process.wait(SECONDS) == 0
            assert "Traceback" not in terminal.text
    finally:
        end(started)


def test_says_that_the_run_has_ended(folder: Path) -> None:
    started = service(folder, monitor=True)
    with top(started.pid) as (terminal, process):
        terminal.read_until("recv_multishot")
        end(started)
        terminal.read_until("the run has ended")
        assert NORMAL in terminal.text
        assert process.wait(SECONDS) == 1
