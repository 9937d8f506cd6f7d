"""The types of operations and results, to type checkers. ``make check`` reads this file; nothing runs it."""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

import mmap
import os
import select
from typing import assert_type

import uring_trio
from uring import BufferRing, Message, Op, abi, ops
from uring.kernel.addresses import PeerName
from uring.kernel.op import Multishot
from uring.ops import StatxResult


async def results(fd: int, buffer: bytearray, asked: bool, size: int | None) -> None:
    assert_type(await uring_trio.perform(ops.nop()), int)
    assert_type(await uring_trio.perform(ops.read(fd, buffer)), int)
    assert_type(await uring_trio.perform(ops.pipe()), tuple[int, int])
    assert_type(await uring_trio.perform(ops.statx("/", mask=1)), StatxResult)
    assert_type(await uring_trio.perform(ops.openat(b"/")), int)
    assert_type(await uring_trio.perform(ops.accept(fd)), int)
    assert_type(await uring_trio.perform(ops.accept(fd, with_address=True)), tuple[int, PeerName])
    assert_type(await uring_trio.perform(ops.accept(fd, with_address=asked)), int | tuple[int, PeerName])
    assert_type(await uring_trio.perform(ops.getsockopt(fd, 1, 2)), int)
    assert_type(await uring_trio.perform(ops.getsockopt(fd, 1, 2, 16)), bytes)
    assert_type(await uring_trio.perform(ops.getsockopt(fd, 1, 2, size)), int | bytes)
    assert_type(await uring_trio.perform(ops.getsockname(fd, peer=True)), PeerName)
    assert_type(await uring_trio.perform(ops.getxattr("/", "user.a")), bytes)
    assert_type(await uring_trio.perform(ops.getxattr("/", "user.a", buffer)), int)
    assert_type(await uring_trio.perform(ops.fgetxattr(fd, "user.a")), bytes)
    assert_type(await uring_trio.perform(ops.fgetxattr(fd, "user.a", buffer)), int)
    assert_type(await uring_trio.perform(ops.files_update([fd], abi.IORING_FILE_INDEX_ALLOC)), list[int])
    assert_type(await uring_trio.perform(ops.files_update([fd], 3)), int | list[int])
    assert_type(await uring_trio.perform(ops.epoll_wait(fd)), list[tuple[int, int]])
    assert_type(await uring_trio.perform(ops.waitid(os.P_PID, 1, os.WEXITED)), os.waitid_result | None)
    assert_type(await uring_trio.perform(ops.pipe(), timeout=1), tuple[int, int])
    assert_type(await uring_trio.perform_many([ops.nop(), ops.read(fd, buffer)]), list[int | OSError])
    assert_type(await uring_trio.perform_many([ops.statx("/")]), list[StatxResult | OSError])


async def items(fd: int) -> None:
    async with uring_trio.subscribe(ops.poll_add_multishot(fd, select.POLLIN)) as masks:
        async for mask in masks:
            assert_type(mask, int)


def kinds(fd: int, memory: mmap.mmap) -> None:
    any_result: Op = ops.pipe()
    numbers: list[Op[int]] = [ops.nop(), ops.read_multishot(fd, 1), ops.madvise(memory, 4)]
    assert_type(ops.pipe().with_flags(16).with_personality(1), Op[tuple[int, int]])
    assert_type(ops.accept_multishot(fd, sqe_flags=16), Multishot[int])
    assert_type(ops.statx("/").pack(), Op[StatxResult])
    assert_type(any_result.fd + numbers[0].fd, int)


def addresses(fd: int) -> None:
    ops.connect(fd, abi.AF_INET, ("127.0.0.1", 80))
    ops.connect(fd, abi.AF_INET6, ("::1", 80, 0, 0))
    ops.bind(fd, abi.AF_UNIX, "/tmp/name")
    ops.sendto(fd, b"data", abi.AF_UNIX, b"\0abstract")
    ops.connect(fd, ("127.0.0.1", 80))
    ops.bind(fd, "/tmp/name")
    ops.sendto(fd, b"data", address=("::1", 80, 0, 0))
    ops.sendmsg(fd, [b"data"], address=(abi.AF_INET, b"of any family"))


def mistakes(fd: int, buffer: bytearray, group: BufferRing) -> None:
    """Each line is an error to both checkers: mypy and pyright complain of a comment that hides none."""
    ops.read(fd, 16)  # type: ignore
    ops.read(fd, "text")  # type: ignore
    ops.write(fd, "text")  # type: ignore
    ops.writev(fd, b"bytes are integers")  # type: ignore
    ops.recv(fd, buffer_group=group)  # type: ignore
    ops.recvmsg(fd, buffer)  # type: ignore
    ops.recvmsg(fd, Message([buffer]), n=4)  # type: ignore
    ops.send(fd, b"data", where=("127.0.0.1", 80))  # type: ignore
    ops.connect(fd, abi.AF_INET, 80)  # type: ignore
    ops.connect(fd, ("127.0.0.1", "80"))  # type: ignore
    ops.sendto(fd, b"data", 3.5)  # type: ignore
    ops.setsockopt(fd, 1, 2, "on")  # type: ignore
    ops.timeout("1 s")  # type: ignore
    ops.openat(3.5)  # type: ignore
    ops.async_cancel(1, every="yes")  # type: ignore
    ops.socket(abi.AF_INET, type=1)  # type: ignore
    ops.socket(abi.AF_INET, "stream")  # type: ignore


async def wrong_results(fd: int) -> None:
    text: str = await uring_trio.perform(ops.nop())  # type: ignore
    number: int = await uring_trio.perform(ops.statx("/"))  # type: ignore
    ends: tuple[int, int] = await uring_trio.perform(ops.openat("/"))  # type: ignore
    await uring_trio.perform(fd)  # type: ignore
    await uring_trio.perform_many(ops.nop())  # type: ignore
    stats: Op[StatxResult] = ops.nop()  # type: ignore
    print(text, number, ends, stats)
