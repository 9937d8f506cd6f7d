"""Registrations and loans that end with a block; limits that an error names."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.ringside import PATIENCE
from uring import BufferPool, PoolExhausted, RegisterBufferPool, Ring, ops

if TYPE_CHECKING:
    from collections.abc import Callable


def test_tables_of_files(ring: Ring, pipe: tuple[int, int]) -> None:
    for _ in range(2):
        with ring.register_files([pipe[0], -1]):
            os.write(pipe[1], b"x")
            assert ring.read(0, bytearray(1), fixed_file=True).wait(PATIENCE) == 1
        assert ring.registered_file_count == 0
        with ring.register_files_sparse(2):
            assert ring.registered_file_count == 2
    ring.register_files([pipe[0]])
    with pytest.raises(KeyError), ring.register_buffers([bytearray(16)]):
        raise KeyError
    ring.unregister_files()


@pytest.mark.parametrize(
    "register",
    [
        lambda ring: ring.register_buffers([bytearray(16)]),
        lambda ring: ring.register_buffers_sparse(1),
        lambda ring: ring.register_buffer_pool(RegisterBufferPool(1)),
    ],
)
def test_tables_of_buffers(ring: Ring, register: Callable[[Ring], object]) -> None:
    for _ in range(2):
        with register(ring):  # type: ignore[attr-defined]
            with pytest.raises(FileExistsError):
                ring.register_buffers_sparse(1)
        with pytest.raises(OSError, match="unregister buffers") as caught:
            ring.unregister_buffers()
        assert caught.value.errno == errno.ENXIO


def test_a_ring_that_stops_within_a_block() -> None:
    with Ring(entries=8) as ring, ring.register_files_sparse(1), ring.register_buffers_sparse(1):
        ring.stop()


def test_a_piece_of_a_pool() -> None:
    pool = BufferPool(1, 64)
    with pool.borrow() as (index, memory):
        assert (index, len(memory), pool.available) == (0, 64, 0)
        with pytest.raises(PoolExhausted), pool.borrow():
            pass
    with pytest.raises(KeyError), pool.borrow():
        raise KeyError
    assert pool.available == 1


LIMITED = """
import os, resource, sys
from uring import Ring, options_for_budget
resource.setrlimit(resource.RLIMIT_MEMLOCK, (8 << 20, 8 << 20))
if not os.getuid():
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
try:
    with Ring(options_for_budget(int(sys.argv[1]) << 20)):
        pass
except OSError as error:
    print(type(error).__name__, error.errno, error)
"""


@pytest.mark.parametrize("budget", [16, 32, 64])
def test_the_limit_of_locked_memory_is_named(budget: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(budget)], capture_output=True, text=True, check=True
    )
    if done.stdout:
        assert "RLIMIT_MEMLOCK (now 8192 KiB); raise it" in done.stdout
        assert done.stdout.startswith("OSError 12 ") or "io_uring is not available" in done.stdout
    assert done.stderr == ""


def test_nothing_to_cancel_is_no_failure(ring: Ring, pipe: tuple[int, int]) -> None:
    for cancel in (ring.async_cancel_any, ring.async_cancel_all):
        assert cancel().wait(PATIENCE) == 0
        reads = [ring.read(pipe[0], bytearray(1)) for _ in range(3)]
        assert cancel().wait(PATIENCE) == 3, "any is every one"
        ring.drain(PATIENCE)
        assert all(request.done() for request in reads)


def test_a_command_that_does_not_fit_is_refused(ring: Ring) -> None:
    with open("/dev/null", "rb") as file:
        for queue in (
            lambda: ring.uring_cmd(file, 1, bytes(17)),
            lambda: ring.uring_cmd(5, file, 1, bytes(80)),
            lambda: ring.submit_linked([(ops.uring_cmd(file, 1, bytes(17)), 1), (ops.nop(), 2)]),
            lambda: ring.submit_all([ops.uring_cmd(file, 1, bytes(17)).pack()]),
        ):
            with pytest.raises(ValueError, match="16 bytes of a command, not"):
                queue()
    assert ring.in_flight == 0
