"""A run whose ring does some operations alone: the kernel refuses the others, by their names."""

from __future__ import annotations

import errno
import pickle
import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio

import uring_trio
from uring import abi, ops
from uring.kernel.ring import KernelRing
from uring_trio import OperationRestricted, RingOptions, seams
from uring_trio.core.engine import current
from uring_trio.core.restrictions import NEEDED
from uring_trio.launch.environment import Switch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path


def restricted(main: Callable[[], Awaitable[Any]], *names: str) -> Any:
    return uring_trio.run(main, ring=RingOptions(restrictions=names))


async def serve_and_ask() -> bytes:
    """A server and a client of plain Trio, a deadline, a cancel, a thread that wakes the run."""

    async def answer(stream: trio.SocketStream) -> None:
        async for data in stream:
            await stream.send_all(data)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, answer, 0, host="127.0.0.1"))
        port = listeners[0].socket.getsockname()[1]
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            nursery.start_soon(stream.send_all, bytes(1 << 20))
            got = 0
            while got < 1 << 20:
                got += len(await stream.receive_some())
            with trio.move_on_after(0.02) as scope:  # the kernel's timer
                await stream.receive_some()
            assert scope.cancelled_caught
            assert await trio.to_thread.run_sync(len, b"woken") == 5
            await stream.send_all(b"end")
            answered = bytes(await stream.receive_some())
        nursery.cancel_scope.cancel()
    return answered


def test_a_run_without_any_operation_of_its_own_serves_plain_trio() -> None:
    assert restricted(serve_and_ask) == b"end"


def test_ticks_work_under_the_empty_list() -> None:
    async def main() -> int:
        async with uring_trio.ticks(0.001) as ticks:
            async for passed in ticks:
                return int(passed)
        raise AssertionError

    assert restricted(main) >= 1


async def reads(path: Path) -> None:
    await uring_trio.Path(path).read_bytes()


async def opens(path: Path) -> None:
    await uring_trio.open_file(path)


async def renames(path: Path) -> None:
    await uring_trio.rename(path, f"{path}2")


async def looks(path: Path) -> None:
    await uring_trio.perform(ops.statx(path))


async def many(path: Path) -> None:
    (answer,) = await uring_trio.perform_many([ops.mkdirat(f"{path}3")])
    assert isinstance(answer, OSError)
    raise answer


async def listens(path: Path) -> None:
    await uring_trio.serve_tcp(stay, 0, host="127.0.0.1")


async def listens_direct(path: Path) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(uring_trio.listen_tcp, "127.0.0.1", 0, direct=True))


async def sends_by_reference(path: Path) -> None:
    near, far = trio.socket.socketpair()
    with near, far:
        async with uring_trio.UringStream(near) as stream:
            await stream.send_zero_copy(bytes(100_000))


async def waits(path: Path) -> None:
    await uring_trio.wait_process(1)


async def messages(path: Path) -> None:
    sender, _ = uring_trio.open_ring_channel()
    await sender.send(1)


async def pipes(path: Path) -> None:
    process = await trio.lowlevel.open_process(["cat"], stdin=-1, stdout=-1)
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        async with process.stdin, process.stdout:
            await process.stdin.send_all(b"x")
            await process.stdout.receive_some()
    finally:
        process.kill()
        await process.wait()


async def datagrams(path: Path) -> None:
    async with (
        await uring_trio.open_udp(("127.0.0.1", 0)) as udp,
        udp.datagrams() as incoming,
    ):
        async for _ in incoming:
            pass


async def stay(stream: Any) -> None:
    await trio.sleep_forever()


REFUSED = [
    (reads, "openat", ()),
    (opens, "openat", ()),
    (renames, "renameat", ()),
    (looks, "statx", ()),
    (many, "mkdirat", ()),
    (listens, "socket", ()),
    (listens, "bind", ("socket",)),
    (listens, "listen", ("socket", "bind")),
    (listens_direct, "socket", ()),
    (listens_direct, "uring_cmd", ("socket",)),
    (listens_direct, "bind", ("socket", "uring_cmd", "listen", "fixed_fd_install")),
    (sends_by_reference, "send_zc", ()),
    (waits, "waitid", ()),
    (datagrams, "socket", ()),
    (datagrams, "recvmsg", ("socket", "bind")),
    (messages, "msg_ring", ()),
    (pipes, "write", ()),
    (pipes, "read", ("write",)),
]


@pytest.mark.parametrize(("use", "name", "allowed"), REFUSED)
def test_the_kernel_refuses_the_others_by_name(
    use: Callable[[Path], Awaitable[None]], name: str, allowed: tuple[str, ...], tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"data")
    with pytest.raises(BaseException) as caught:
        uring_trio.run(use, path, ring=RingOptions(restrictions=allowed))
    error = caught.value
    while isinstance(error, BaseExceptionGroup):
        (error,) = error.exceptions
    assert isinstance(error, OperationRestricted)
    assert error.op == name
    assert error.errno == errno.EACCES
    assert name in str(error)
    assert "restrictions" in str(error)
    assert path.read_bytes() == b"data"
    assert not (tmp_path / "file2").exists()


def test_what_is_allowed_works_and_a_file_may_refuse_as_ever(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"data")

    async def main() -> bytes:
        with pytest.raises(FileNotFoundError):
            await uring_trio.Path(tmp_path / "none").read_bytes()
        await uring_trio.Path(tmp_path / "new").write_bytes(b"more")
        return await uring_trio.Path(tmp_path / "file").read_bytes()

    assert restricted(main, "openat", "read", "write", "statx", "fsync") == b"data"
    assert (tmp_path / "new").read_bytes() == b"more"


def test_the_ring_refuses_though_nobody_asks_python(tmp_path: Path) -> None:
    """The list is the kernel's: an entry that is written past every check of this package fails."""

    async def main() -> tuple[int, int]:
        engine = current()
        answers = []
        for op in (ops.nop(), ops.mkdirat(str(tmp_path / "made"))):
            slot = engine.acquire("raw")
            slot.template = engine.ring.template(slot.user_data, *op.fields)
            slot.pins = op.pins
            answers.append(await seams.transact(slot))
            engine.release(slot)
        return answers[0], answers[1]

    assert restricted(main, "openat") == (0, -errno.EACCES)
    assert not (tmp_path / "made").exists()


def test_registrations_beside_the_run_are_refused() -> None:
    async def main() -> None:
        ring = current().ring
        assert isinstance(ring, KernelRing)
        ring.register(int(abi.IORING_REGISTER_PERSONALITY))

    with pytest.raises(PermissionError):
        restricted(main)
    assert type(pickle.loads(pickle.dumps(OperationRestricted("read")))) is OperationRestricted


def test_the_statistics_tell_the_list() -> None:
    async def main() -> Any:
        return uring_trio.statistics().restrictions

    assert uring_trio.run(main) is None
    assert restricted(main) == tuple(sorted(NEEDED))
    assert restricted(main, "READ", "IORING_OP_OPENAT", "read") == tuple(sorted((*NEEDED, "read", "openat")))


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        ("read", TypeError, "names of operations"),
        (3, TypeError, "names of operations"),
        ([3], TypeError, "name of an operation"),
        (["reed"], ValueError, "'reed', which is no operation"),
        ([""], ValueError, "'', which is no operation"),
    ],
)
def test_bad_lists_are_refused_before_any_ring(value: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        RingOptions(restrictions=value)


def test_lists_as_text() -> None:
    assert RingOptions.parse("restrictions=").restrictions == ()
    options = RingOptions.parse("restrictions=read+OPENAT,entries=8")
    assert options.restrictions == ("openat", "read")
    switch = Switch.parse("restrictions=read+openat,stats=1")
    assert switch is not None
    assert Switch.parse(str(switch)) == switch
    with pytest.raises(ValueError, match="'reed', which is no operation"):
        RingOptions.parse("restrictions=reed")


def test_the_launcher_takes_a_list() -> None:
    program = "import trio; trio.run(trio.open_file, '/dev/null')"
    command = [sys.executable, "-m", "uring_trio", "--ring", "restrictions=statx", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "OperationRestricted: [Errno 13] the ring may not do the operation openat" in done.stderr


LANDLOCK = """
import ctypes, os, socket, struct
import uring_trio
from uring import ops

call = ctypes.CDLL(None, use_errno=True).syscall
CREATE, RESTRICT, NO_NEW_PRIVILEGES = 444, 446, 38
if call(CREATE, None, 0, 1) < 4:
    print("no landlock")
    raise SystemExit
every_access_to_files, bind_and_connect = (1 << 13) - 1, 3
rules = call(CREATE, struct.pack("=QQ", every_access_to_files, bind_and_connect), 16, 0)

async def main():
    await uring_trio.perform(ops.openat("/dev/null", os.O_RDONLY | os.O_CLOEXEC))
    assert ctypes.CDLL(None).prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0) == 0
    assert call(RESTRICT, rules, 0) == 0
    with socket.socket() as sock:
        for op in (
            ops.openat("/dev/null", os.O_RDONLY),
            ops.openat("/dev/null", os.O_RDONLY).with_flags(1 << 4),  # in a kernel worker
            ops.bind(sock.fileno(), socket.AF_INET, ("127.0.0.1", 0)),
            ops.connect(sock.fileno(), socket.AF_INET, ("127.0.0.1", 1)),
        ):
            try:
                await uring_trio.perform(op)
            except PermissionError:
                print("refused", op.name)

uring_trio.run(main)
"""


def test_landlock_holds_for_operations_of_the_ring() -> None:
    done = subprocess.run([sys.executable, "-c", LANDLOCK], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    if done.stdout == "no landlock\n":
        pytest.skip("Landlock is not in this kernel")
    assert done.stdout.split("\n") == [
        "refused openat",
        "refused openat",
        "refused bind",
        "refused connect",
        "",
    ]
