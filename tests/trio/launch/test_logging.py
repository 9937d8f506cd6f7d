"""The logging of a run: its start and its shortages; nothing where the program has not set it up."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest
import trio

import uring_trio
from uring import RingUnavailable, ops
from uring_trio import RingOptions


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, logger="uring_trio")
    return caplog


def told(lines: pytest.LogCaptureFixture, text: str) -> list[int]:
    records = (record for record in lines.records if record.name == "uring_trio.run")
    return [record.levelno for record in records if text in record.getMessage()]


def test_the_start_of_a_run(lines: pytest.LogCaptureFixture) -> None:
    uring_trio.run(trio.sleep, 0, ring=RingOptions(entries=64))
    assert told(lines, "a run on io_uring begins, with RingOptions(entries=64") == [logging.INFO]


def test_a_fallback_each_time(lines: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(ring: object) -> None:
        raise RingUnavailable(1, "refused here")

    monkeypatch.setattr("uring_trio.launch.swap.create_manager", refuse)
    monkeypatch.setattr("uring_trio.launch.run._warned", True)
    for _ in range(2):
        uring_trio.run(trio.sleep, 0, unavailable="epoll")
    assert told(lines, "a run on epoll begins: ") == [logging.WARNING] * 2


def test_completions_that_overflow(lines: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(200):
                nursery.start_soon(uring_trio.perform, ops.nop())
        assert uring_trio.statistics().overflows > 0
        assert told(lines, "found the completion queue of 2 full") == [logging.WARNING]

    uring_trio.run(main, ring=RingOptions(entries=2, cq_entries=2))


def test_receive_buffers_that_run_out(lines: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        pairs = [trio.socket.socketpair() for _ in range(8)]
        async with trio.open_nursery() as nursery:
            for receiver, _ in pairs:
                nursery.start_soon(receiver.recv, 65536)
            await trio.testing.wait_all_tasks_blocked()
            for _, sender in pairs:
                sender._sock.send(b"x")  # type: ignore[attr-defined]
        for receiver, sender in pairs:
            receiver.close()
            sender.close()

    uring_trio.run(main, ring=RingOptions(buffers=1))
    assert told(lines, "all 1 receive buffers were in use") == [logging.WARNING]


def test_silence_without_a_handler() -> None:
    program = (
        "import trio, uring_trio, logging\n"
        "uring_trio.run(trio.sleep, 0)\n"
        "logging.getLogger('uring_trio.run').warning('not to be seen')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
