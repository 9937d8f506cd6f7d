"""Awaiting single operations of every kind."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import uring_trio
from uring import abi, ops
from uring_trio import RingOptions, perform, perform_many
from uring_trio.core.engine import current

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_file_is_made_written_and_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "file"
    fd = await perform(ops.openat(path, os.O_RDWR | os.O_CREAT))
    try:
        assert await perform(ops.write(fd, b"some text", offset=0)) == 9
        assert await perform(ops.fsync(fd, datasync=True)) == 0
        found = await perform(ops.statx(path))
        assert found.as_stat_result() == os.stat(path)
    finally:
        assert await perform(ops.close(fd)) == 0


async def test_a_failure_names_the_path(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"missing.*openat") as caught:
        await perform(ops.openat(tmp_path / "missing"))
    assert caught.value.filename == str(tmp_path / "missing")


async def test_in_a_cancelled_scope_nothing_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    with trio.CancelScope() as scope:
        scope.cancel()
        await perform(ops.unlinkat(path))
    assert scope.cancelled_caught
    assert path.exists()


async def test_commands_carry_their_data() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as a, socket.socket(type=socket.SOCK_DGRAM) as b:
        b.bind(("127.0.0.1", 0))
        a.sendto(b"12345", b.getsockname())
        assert await perform(ops.uring_cmd(b, abi.SOCKET_URING_OP_SIOCINQ, bytes(16))) == 5
        with pytest.raises(ValueError, match="hold 16 bytes"):
            await perform(ops.uring_cmd(b, abi.SOCKET_URING_OP_SIOCINQ, bytes(17)))


async def test_a_zero_copy_send_returns_when_its_memory_is_free() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as a, socket.socket(type=socket.SOCK_DGRAM) as b:
        b.bind(("127.0.0.1", 0))
        data = bytearray(b"zero copy")
        assert await perform(ops.sendto_zc(a, data, socket.AF_INET, b.getsockname())) == 9
        data += b" and resized"
        assert b.recv(100) == b"zero copy"


async def test_a_futex_wait_is_cancelled() -> None:
    word = bytearray(8)
    with trio.move_on_after(0.01) as scope:
        await perform(ops.futex_wait(word, 0))
    assert scope.cancelled_caught
    assert await perform(ops.futex_wake(word)) == 0


async def test_multishots_are_refused() -> None:
    with pytest.raises(TypeError, match="poll_add_multishot completes many times"):
        await perform(ops.poll_add_multishot(0, abi.POLLIN))


async def test_flags_that_nobody_could_answer_are_refused() -> None:
    silent = ops.nop().with_flags(abi.IOSQE_CQE_SKIP_SUCCESS)
    linked = ops.nop().with_flags(abi.IOSQE_IO_LINK)
    for op, why in ((silent, "nothing would tell"), (linked, "some other task's")):
        with pytest.raises(ValueError, match=why):
            await perform(op)
        with pytest.raises(ValueError, match=why):
            await perform_many([ops.nop(), op])
    hard = ops.nop().with_flags(abi.IOSQE_IO_HARDLINK)
    with pytest.raises(ValueError, match="some other task's"):
        await perform(hard)
    assert await perform_many([linked, ops.nop()]) == [0, 0]


async def test_completions_that_another_ring_made_up_are_counted() -> None:
    manager = current()
    own = manager.ring.fd
    for user_data in (len(manager.table.entries) + 1000, (1 << 24) - 1, 3 << 62 | (1 << 24) - 1):
        late = manager.late
        assert await perform(ops.msg_ring(own, user_data, 7)) == 0
        while manager.late == late:
            await trio.sleep(0.001)
        assert manager.late == late + 1


async def test_many_zero_copy_sends_return_with_the_last_of_all() -> None:
    """Each completes twice, which counts as one: nothing returns while another member is in flight."""
    near, far = socket.socketpair()
    with near, far, socket.socket(type=socket.SOCK_DGRAM) as a, socket.socket(type=socket.SOCK_DGRAM) as b:
        b.bind(("127.0.0.1", 0))
        data = [bytearray(b"datagram %d" % i) for i in range(4)]
        late = bytearray(4)
        sends = [ops.sendto_zc(a, each, socket.AF_INET, b.getsockname()) for each in data]
        async with trio.open_nursery() as nursery:

            async def end() -> None:
                await wait_all_tasks_blocked()
                far.send(b"late")

            nursery.start_soon(end)
            assert await perform_many([*sends, ops.recv(near, late)]) == [10, 10, 10, 10, 4]
        assert late == b"late"
        assert [b.recv(100) for _ in data] == [b"datagram %d" % i for i in range(4)]


@pytest.mark.parametrize("how", ["plain", "deadline", "timeout", "many", "pipe"])
def test_the_file_is_held_from_the_call_on(tmp_path: Path, how: str) -> None:
    """Another task of the same tick closes the descriptor, and its number becomes another file's."""
    options = RingOptions(deadlines="link" if how == "deadline" else "auto")
    uring_trio.run(close_under_way, tmp_path, how, ring=options)


async def close_under_way(tmp_path: Path, how: str) -> None:
    for _ in range(20):
        if how == "pipe":
            end, fd = os.pipe()
        else:
            fd = os.open(tmp_path / "first", os.O_CREAT | os.O_RDWR | os.O_TRUNC)
        calls = 0

        async def write(fd: int = fd) -> None:
            nonlocal calls
            calls += 1
            op = ops.write(fd, b"for the first", **({} if how == "pipe" else {"offset": 0}))
            if how == "many":
                assert await perform_many([op, ops.nop()]) == [13, 0]
            elif how == "deadline":
                with trio.fail_after(30):  # the kernel's timer
                    assert await perform(op) == 13
            else:
                assert await perform(op, timeout=20 if how == "timeout" else None) == 13

        async def close(fd: int = fd) -> None:
            while not calls:
                await trio.lowlevel.checkpoint()
            os.close(fd)
            assert os.open(tmp_path / "second", os.O_CREAT | os.O_RDWR | os.O_TRUNC) == fd

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            nursery.start_soon(close)
        assert (tmp_path / "second").read_bytes() == b""
        if how == "pipe":
            assert os.read(end, 100) == b"for the first"
            os.close(end)
        else:
            assert (tmp_path / "first").read_bytes() == b"for the first"
        os.close(fd)
