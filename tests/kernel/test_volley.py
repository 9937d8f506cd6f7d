"""Volleys on the running kernel: one completion for many requests."""

import errno
import os
from array import array
from collections.abc import Iterator
from pathlib import Path

import pytest

from uring import abi, ops
from uring.kernel.memory import bytes_address, new_bytes
from uring.kernel.ring import CQE, KernelRing
from uring.kernel.volley import Volley

READ = int(abi.IORING_OP_READ)


@pytest.fixture
def ring() -> Iterator[KernelRing]:
    ring = KernelRing(8, int(abi.IORING_SETUP_SINGLE_ISSUER | abi.IORING_SETUP_DEFER_TASKRUN))
    try:
        yield ring
    finally:
        ring.close()


def completions(ring: KernelRing, wait: float = 1.0) -> list[tuple[int, int, int]]:
    n = ring.cycle(wait)
    return list(CQE.iter_unpack(ring.out[: max(n, 0) * 16]))


@pytest.mark.parametrize("count", [1, 7, 8, 9, 1000])
def test_one_completion_also_when_the_queue_is_smaller(ring: KernelRing, tmp_path: Path, count: int) -> None:
    (tmp_path / "file").write_bytes(bytes(range(256)))
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    try:
        data = [new_bytes(2) for _ in range(count)]
        places = array("Q", [x for i in range(count) for x in (i % 250, bytes_address(data[i]), 2)])
        volley = Volley(ring, count)
        volley.fill(READ, fd, places)
        assert volley.queue(77) == 0
        found = []
        while not found:
            found = completions(ring)
        assert found == [(77, 0, 0)]
        assert volley.results() == [2] * count
        assert volley.unfinished() == []
        assert data == [bytes((i % 250, i % 250 + 1)) for i in range(count)]
        assert ring.inflight == 0
        assert completions(ring, 0.0) == []
    finally:
        os.close(fd)


def test_others_come_between(ring: KernelRing) -> None:
    volleys = [Volley(ring, 20) for _ in range(40)]
    for i, volley in enumerate(volleys):
        volley.set([ops.nop(result=-k).fields for k in range(20)])
        assert volley.queue(i) == 0
        assert ring.put_op(1000 + i, ops.nop()) == 0
    found = []
    while len(found) < 80:
        found += completions(ring)
    assert sorted(user_data for user_data, *_ in found) == [*range(40), *range(1000, 1040)]
    assert all(volley.results() == [-k for k in range(20)] for volley in volleys)


def test_taken_back(ring: KernelRing) -> None:
    reader, writer = os.pipe()
    try:
        memory = new_bytes(10)
        volley = Volley(ring, 3)
        volley.set([ops.nop().fields, ops.nop().fields, ops.nop().fields])
        volley.fill(READ, reader, array("Q", [0, bytes_address(memory), 10] * 3))
        assert volley.queue(5) == 0
        assert volley.unqueue() == 3
        assert completions(ring) == [(5, 0, 0)]
        assert volley.results() == [-errno.ECANCELED] * 3
        assert volley.unqueue() == 0
    finally:
        os.close(reader)
        os.close(writer)


def test_cancelled_one_by_one(ring: KernelRing) -> None:
    reader, writer = os.pipe()
    try:
        memory = new_bytes(10)
        volley = Volley(ring, 2)
        volley.fill(READ, reader, array("Q", [0, bytes_address(memory), 10] * 2))
        assert volley.queue(5) == 0
        assert completions(ring, 0.01) == []
        members = volley.unfinished()
        assert len(members) == 2
        for member in members:
            assert ring.put_op(9, ops.async_cancel(member)) == 0
        found = []
        while len(found) < 3:
            found += completions(ring)
        assert sorted(user_data for user_data, *_ in found) == [5, 9, 9]
        assert volley.results() == [-errno.ECANCELED] * 2
    finally:
        os.close(reader)
        os.close(writer)


def test_refusals(ring: KernelRing) -> None:
    for count in (0, -1, (1 << 20) + 1):
        with pytest.raises(ValueError):
            Volley(ring, count)
    with pytest.raises(ValueError):
        Volley(ring, 2).fill(READ, 0, array("Q", [0, 0, 0]))
    volley = Volley(ring, 1)
    ring.close()
    assert volley.queue(1) == -errno.EBADF
