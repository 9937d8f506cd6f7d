"""Leases of receive buffers: how long their memory is theirs, who gives it back, and groups that grow."""

from __future__ import annotations

import gc
import pickle
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import uring_trio
from tests.trio.helpers import first, receive_exactly, streams
from uring_trio import Lease
from uring_trio.core.engine import current
from uring_trio.testing import leased

if TYPE_CHECKING:
    from collections.abc import Callable


async def test_a_lease_holds_its_memory_until_it_is_given_back() -> None:
    near, far = await streams()
    async with near, far, far.chunks(copy=False, chunk_size=16, buffers=2) as chunks:
        await near.send_all(b"a" * 16 + b"b" * 16 + b"c" * 16)
        one, two = await first(chunks), await first(chunks)
        assert (bytes(one), bytes(two)) == (b"a" * 16, b"b" * 16)
        with trio.move_on_after(0.02) as scope:
            await first(chunks)
        assert scope.cancelled_caught
        assert (bytes(one), bytes(two)) == (b"a" * 16, b"b" * 16)
        async with trio.open_nursery() as nursery:

            async def take() -> None:
                with await first(chunks) as three:
                    assert bytes(three) == b"c" * 16

            nursery.start_soon(take)
            await wait_all_tasks_blocked()
            two.release()  # whichever comes back: that one is used next
        one.release()


async def test_a_lease_that_was_given_back() -> None:
    near, far = await streams()
    async with near, far, far.chunks(copy=False) as chunks:
        await near.send_all(b"data")
        lease = await first(chunks)
        view = lease.data
        assert repr(lease) == "<Lease of 4 bytes>"
        with lease:
            assert len(lease) == 4
        lease.release()
        assert repr(lease) == "<Lease, given back>"
        for use in (lambda: lease.data, lambda: bytes(lease), lambda: len(lease), lease.__enter__):
            with pytest.raises(ValueError, match="given back"):
                use()
        with pytest.raises(ValueError):
            bytes(view)


async def test_memory_that_is_shared_cannot_be_given_back() -> None:
    near, far = await streams()
    async with near, far, far.chunks(copy=False) as chunks:
        await near.send_all(b"data")
        lease = await first(chunks)
        other = pickle.PickleBuffer(lease.data)
        with pytest.raises(BufferError):
            lease.release()
        assert bytes(lease) == b"data"
        other.release()
        lease.release()


@pytest.mark.parametrize("way", ["release", "block"])
async def test_another_thread_cannot_give_a_lease_back(way: str) -> None:
    def give_back(lease: Lease) -> None:
        if way == "release":
            lease.release()
        else:
            with lease:
                pass

    near, far = await streams()
    async with near, far, far.chunks(copy=False, buffers=1, chunk_size=16) as chunks:
        await near.send_all(b"data")
        lease = await first(chunks)
        with pytest.raises(RuntimeError, match="thread of its run"):
            await trio.to_thread.run_sync(give_back, lease)
        assert bytes(lease) == b"data"  # it is still out
        assert leased() == 1
        await trio.to_thread.run_sync(trio.from_thread.run_sync, give_back, lease)
        assert leased() == 0
        await near.send_all(b"more")
        with await first(chunks) as lease:
            assert bytes(lease) == b"more"


async def test_who_keeps_leases_starves_nobody_else() -> None:
    near, far = await streams()
    others = [await streams() for _ in range(3)]
    kept = []
    async with near, far, far.chunks(copy=False, chunk_size=64, buffers=4) as chunks:
        await near.send_all(bytes(1000))
        kept = [await first(chunks) for _ in range(4)]
        for one, other in others:
            async with one, other:
                await one.send_all(b"y" * 200)
                assert await receive_exactly(other, 100) == b"y" * 100
                async with other.chunks(chunk_size=64, buffers=4) as mine:
                    assert len(await first(mine)) == 64
        for lease in kept:
            lease.release()


async def test_leases_outlive_block_stream_and_run() -> None:
    near, far = await streams()
    async with near, far:
        async with far.chunks(copy=False, chunk_size=64, buffers=4) as chunks:
            await near.send_all(b"kept")
            lease = await first(chunks)
        assert leased() == 1
        # A group with a lease out is nobody else's.
        async with far.chunks(copy=False, chunk_size=64, buffers=4) as chunks:
            await near.send_all(b"z" * 1000)
            for _ in range(8):
                (await first(chunks)).release()
        assert bytes(lease) == b"kept"
    lease.release()


def drop(lease: list[Lease]) -> None:
    lease.clear()


def drop_in_a_cycle(lease: list[Lease]) -> None:
    cycle: list[Any] = [lease.pop()]
    cycle.append(cycle)
    del cycle
    gc.collect()


def drop_in_a_thread(lease: list[Lease]) -> None:
    thread = threading.Thread(target=lease.clear)
    thread.start()
    thread.join()


@pytest.mark.parametrize("forget", [drop, drop_in_a_cycle, drop_in_a_thread])
@pytest.mark.parametrize("bundle", [False, True])
async def test_a_forgotten_lease_goes_home_and_says_where_it_was_received(
    forget: Callable[[list[Lease]], None], bundle: bool
) -> None:
    near, far = await streams("tcp")
    received = b""
    async with near, far, far.chunks(copy=False, bundle=bundle, chunk_size=16, buffers=2) as chunks:
        await near.send_all(bytes(range(160)))
        while len(received) < 160:
            lease = [await anext(chunks)]
            line = sys._getframe().f_lineno - 1
            received += bytes(lease[0])
            with pytest.warns(ResourceWarning) as caught:
                forget(lease)
            (warning,) = caught
            assert (warning.filename, warning.lineno) == (__file__, line)
            assert f"not released: received at {__file__}:{line}, in {ME}" in str(warning.message)
        await wait_all_tasks_blocked()
        assert leased() == 0
    assert received == bytes(range(160))


ME = test_a_forgotten_lease_goes_home_and_says_where_it_was_received.__name__


async def test_a_forgotten_lease_stays_out_while_its_data_is_used() -> None:
    near, far = await streams()
    async with near, far, far.chunks(copy=False, chunk_size=16, buffers=1) as chunks:
        for use in (lambda data: data, pickle.PickleBuffer):
            await near.send_all(b"kept" + b"n" * 12)
            with pytest.warns(ResourceWarning, match="16 bytes"):
                used: Any = use((await first(chunks)).data)
            await near.send_all(b"next")
            await wait_all_tasks_blocked()
            assert leased() == 1
            assert bytes(used)[:4] == b"kept"
            del used
            with await first(chunks) as lease:
                assert bytes(lease) == b"next"
            del lease
        assert leased() == 0


async def test_a_lease_that_was_released_is_not_missed() -> None:
    near, far = await streams()
    async with near, far, far.chunks(copy=False, chunk_size=16, buffers=2) as chunks:
        for _ in range(10):
            await near.send_all(b"data")
            lease = await first(chunks)
            lease.release()
            lease.release()
            del lease
        assert leased() == 0


def test_a_lease_may_be_forgotten_after_its_run() -> None:
    """There is nobody left who could lack its buffer: no warning, which would be an error here."""
    program = """
import sys, trio, uring_trio
kept = []
async def main():
    near, far = trio.socket.socketpair()
    async with uring_trio.UringStream(near) as a, uring_trio.UringStream(far) as b:
        async with b.chunks(copy=False) as chunks:
            for _ in range(2):
                await a.send_all(b"data")
                kept.append(await anext(chunks))
uring_trio.run(main)
kept.pop()
print(bytes(kept[0]))
sys.unraisablehook = lambda *args: print(args)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("b'data'\n", "", 0)


def test_any_thread_gives_a_lease_back_after_the_run() -> None:
    kept: list[Lease] = []

    async def main() -> None:
        near, far = await streams()
        async with near, far, far.chunks(copy=False) as chunks:
            await near.send_all(b"data")
            kept.append(await first(chunks))

    uring_trio.run(main)
    thread = threading.Thread(target=kept[0].release)
    thread.start()
    thread.join()
    assert repr(kept[0]) == "<Lease, given back>"


def test_leases_outlive_the_run() -> None:
    kept: list[Any] = []

    async def main() -> None:
        near, far = await streams()
        async with near, far, far.chunks(copy=False) as chunks:
            await near.send_all(b"still here")
            kept.append(await first(chunks))

    uring_trio.run(main)
    assert bytes(kept[0]) == b"still here"
    kept[0].release()


async def test_groups_are_used_again_and_given_up() -> None:
    near, far = await streams()
    async with near, far:
        for size in range(1, 60):
            for _ in range(2):
                async with far.chunks(chunk_size=size) as chunks:
                    await near.send_all(b"x")
                    assert await first(chunks) == b"x"
        groups = current().groups
        assert groups is not None
        assert len(groups.open) == 16
        assert max(group.number for group in groups.open) <= 18


@pytest.mark.parametrize("bundle", [False, True], ids=["single", "bundle"])
async def test_groups_grow_when_exhausted_and_shrink_when_idle(
    monkeypatch: pytest.MonkeyPatch, bundle: bool
) -> None:
    monkeypatch.setattr("uring_trio.core.buffers.IDLE_SECONDS", 0.02)
    near, far = await streams("unix")
    async with near, far:
        async with far.chunks(copy=False, bundle=bundle, chunk_size=1 << 18, buffers=20) as chunks:
            [group] = current().groups.open
            assert group.in_use == 2
            leases = []
            for number in range(20):
                await near.send_all(bytes([number]))
                leases.append(await first(chunks))
            assert [bytes(lease) for lease in leases] == [bytes([number]) for number in range(20)]
            # That is its bound.
            await near.send_all(b"more")
            with trio.move_on_after(0.05):
                await first(chunks)
                pytest.fail("there is no buffer for it")
            assert group.in_use == 20
            leases.pop().release()
            with await first(chunks) as lease:
                assert bytes(lease) == b"more"
            for lease in leases:
                lease.release()
            while group.in_use > 2:
                await trio.sleep(0.01)
            await near.send_all(b"still open")
            with await first(chunks) as lease:
                assert bytes(lease) == b"still open"
        assert current().groups.open == {group}
        while current().groups.open:
            await trio.sleep(0.01)
        assert group.closed
        async with far.chunks() as chunks:
            await near.send_all(b"again")
            assert await first(chunks) == b"again"
