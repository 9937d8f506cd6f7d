"""The operations in flight, as people see them."""

import io
import os
import signal

import pytest
import trio
import trio.testing

from uring_trio import debug
from uring_trio.ipc.pipes import RingPipe


async def receive_for_ever(sock):
    await sock.recv(10)  # the awaited line


async def test_shows_each_operation_with_its_task_and_line():
    listener = trio.socket.socket()
    await listener.bind(("127.0.0.1", 0))
    listener.listen()
    client = trio.socket.socket()
    await client.connect(listener.getsockname())
    server, _ = await listener.accept()
    with listener, client, server:
        debug.track_ages()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive_for_ever, server)
            await trio.testing.wait_all_tasks_blocked()
            (row,) = [row for row in debug.in_flight() if row.name == "recv"]
            assert row.fd == server.fileno()
            assert row.peer == f"127.0.0.1:{client.getsockname()[1]}"
            assert row.state == "in flight"
            assert row.task.endswith("receive_for_ever")
            path, _, line = row.where.rpartition(":")
            with open(path) as source:
                assert "the awaited line" in source.readlines()[int(line) - 1]
            assert row.age is not None
            assert row.age >= 0
            text = io.StringIO()
            debug.dump(text)
            assert "recv" in text.getvalue()
            assert "receive_for_ever" in text.getvalue()
            nursery.cancel_scope.cancel()


async def test_a_signal_prints_it(capsys):
    before = signal.getsignal(signal.SIGUSR1)
    await trio.testing.wait_all_tasks_blocked()
    try:
        debug.dump_on_signal(signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGUSR1)
        await trio.sleep(0)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert "wait_readable" in capsys.readouterr().err


async def test_looking_leaves_no_descriptor_behind():
    source, sink = os.pipe()
    async with RingPipe(source) as pipe, trio.open_nursery() as nursery:
        nursery.start_soon(pipe.receive_some)
        await trio.testing.wait_all_tasks_blocked()
        before = os.listdir("/proc/self/fd")
        (row,) = [row for row in debug.in_flight() if row.name == "read"]
        assert (row.fd, row.peer) == (source, "")
        assert os.listdir("/proc/self/fd") == before
        os.close(sink)


def test_outside_a_ring_run_it_says_so():
    with pytest.raises(RuntimeError, match="async context"):
        debug.dump()
    with pytest.raises(RuntimeError, match="async context"):
        debug.dump_on_signal()
