"""Accepting and connecting: addresses, failures, cancels, and listeners that several processes share."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import uring_trio
from tests.trio.helpers import in_flight, tcp_sockets
from uring_trio import UringListener, UringStream

PATIENCE = 60.0


WORKERS = """
    import os, signal, socket, sys, trio, trio.testing, uring_trio
    signal.alarm(80)
    kind = sys.argv[1]
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(50)
    told, tell = os.pipe()
    stands, stand = os.pipe()

    async def handle(stream):
        async with stream:
            command = await stream.receive_some(1)
            await stream.send_all(str(os.getpid()).encode())
            if command == b"B":
                await trio.testing.wait_all_tasks_blocked()  # it waits for the next connection
                os.write(stand, b"x")
                os.read(told, 1)  # the loop stands still until this is closed

    async def serve(sock):
        if kind == "trio":
            await trio.serve_listeners(handle, [trio.SocketListener(sock)])
        async with trio.open_nursery() as nursery, uring_trio.UringListener(sock).connections() as incoming:
            async for stream in incoming:
                nursery.start_soon(handle, stream)

    async def worker():
        await serve(trio.socket.from_stdlib_socket(listener))

    def ask(command):
        client = socket.create_connection(listener.getsockname(), timeout=60)
        client.send(command)
        return client.recv(20)

    workers = []
    for _ in range(2):
        pid = os.fork()
        if not pid:
            os.close(tell)
            (trio.run if sys.argv[2] == "stock" else uring_trio.run)(worker)
        workers.append(str(pid).encode())
    busy = ask(b"B")
    os.read(stands, 1)
    assert {ask(b"x") for _ in range(20)} == {*workers} - {busy}, "connections waited for the busy worker"
    os.kill(int(busy), signal.SIGSTOP)
    assert {ask(b"x") for _ in range(20)} == {*workers} - {busy}
    for pid in workers:
        os.kill(int(pid), signal.SIGKILL)
        os.waitpid(int(pid), 0)
    print("served")
"""


@pytest.mark.parametrize(("kind", "run"), [("trio", "stock"), ("trio", "ring"), ("uring", "ring")])
def test_an_idle_worker_takes_the_connections_of_a_shared_listener(kind: str, run: str) -> None:
    script = textwrap.dedent(WORKERS)
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script, kind, run]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    assert (done.returncode, done.stdout) == (0, "served\n"), done.stderr


async def test_connections_of_a_listener_that_somebody_else_made() -> None:
    """A duplicate, which may be another process's, gets connections while this loop stands still."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    duplicate = listener.dup()
    duplicate.settimeout(PATIENCE)
    clients = [socket.socket() for _ in range(3)]
    adopted = UringListener(trio.socket.from_stdlib_socket(listener))
    async with adopted, adopted.connections() as incoming:
        accepted: list[Any] = []
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def take() -> None:
                accepted.append(await incoming.__anext__())

            await wait_all_tasks_blocked()
            clients[0].connect(listener.getsockname())
            accepted.append(duplicate.accept()[0])
            clients[1].connect(listener.getsockname())
        clients[2].connect(listener.getsockname())
        accepted.append(await incoming.__anext__())
        assert len(accepted) == 3
        for each in (*clients, duplicate):
            each.close()
        for each in accepted:
            await each.aclose() if isinstance(each, UringStream) else each.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_accept_and_connect(host: str) -> None:
    near, far = await tcp_sockets(host)
    with near, far:
        assert near.getpeername() == far.getsockname()
        assert far.getpeername() == near.getsockname()
        assert near.family == far.family == (socket.AF_INET6 if ":" in host else socket.AF_INET)
        assert not os.get_inheritable(far.fileno())


async def test_accept_tells_the_address() -> None:
    with trio.socket.socket() as listener:
        await listener.bind(("127.0.0.1", 0))
        listener.listen(10)
        clients = [socket.create_connection(listener.getsockname()) for _ in range(5)]
        for client in clients:
            peer, address = await listener.accept()
            assert address == client.getsockname() == peer.getpeername()
            peer.close()
            client.close()


async def test_unix_accept_and_connect() -> None:
    with tempfile.TemporaryDirectory() as folder, trio.socket.socket(socket.AF_UNIX) as listener:
        await listener.bind(f"{folder}/socket")
        listener.listen(5)
        with trio.socket.socket(socket.AF_UNIX) as client:
            await client.connect(Path(folder) / "socket")
            peer, address = await listener.accept()
            assert address == ""
            with peer:
                await client.send(b"hello")
                assert await peer.recv(10) == b"hello"


async def test_connecting_fails_as_in_trio() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with trio.socket.socket() as client:
            with pytest.raises(ConnectionRefusedError, match="Error connecting to"):
                await client.connect(unused.getsockname())
    with trio.socket.socket(socket.AF_UNIX) as client, pytest.raises(FileNotFoundError):
        await client.connect("/nowhere/at/all")
    with trio.socket.socket() as client:
        for wrong in ("text", ("127.0.0.1",), ("127.0.0.1", 1, 2, 3, 4), None):
            with pytest.raises((TypeError, ValueError)):
                await client.connect(wrong)
        with pytest.raises((OverflowError, OSError)):
            await client.connect(("127.0.0.1", 70000))


async def test_a_cancelled_connect_closes_the_socket() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = [socket.create_connection(listener.getsockname())]
        with trio.socket.socket() as client:
            async with trio.open_nursery() as nursery:

                @nursery.start_soon
                async def connect() -> None:
                    with pytest.raises(trio.Cancelled):
                        await client.connect(listener.getsockname())

                await wait_all_tasks_blocked()
                assert in_flight() == {"connect": 1}
                nursery.cancel_scope.cancel()
            assert client.fileno() == -1
        waiting[0].close()


async def test_two_tasks_that_swap_listeners_in_one_tick_get_their_own_peers_address():
    listeners = []
    for _ in range(2):
        listener = trio.socket.socket()
        await listener.bind(("127.0.0.1", 0))
        listener.listen()
        listeners.append(listener)
    accepted = []

    async def accept(first, second):
        for listener in (first, second):
            accepted.append(await listener.accept())

    clients = []
    with listeners[0], listeners[1]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept, listeners[0], listeners[1])
            nursery.start_soon(accept, listeners[1], listeners[0])
            for _ in range(2):
                await trio.testing.wait_all_tasks_blocked()
                for listener in listeners:
                    client = socket.create_connection(listener.getsockname())
                    clients.append(client)
        for sock, address in accepted:
            with sock:
                assert sock.getpeername() == address
        assert {address for _, address in accepted} == {client.getsockname() for client in clients}
    for client in clients:
        client.close()


async def test_race_31_each_connection_has_its_own_address() -> None:
    async with trio.open_nursery() as nursery:
        listener = await nursery.start(uring_trio.listen_tcp, "127.0.0.1", 0)
        clients = [socket.socket() for _ in range(10)]
        async with listener.connections() as incoming:
            for client in clients:
                client.connect(listener.address)
            streams = [await anext(incoming) for _ in clients]
        peers = {stream.socket.getpeername() for stream in streams}
        assert peers == {client.getsockname() for client in clients}
        for stream in streams:
            await stream.aclose()
        for client in clients:
            client.close()
        nursery.cancel_scope.cancel()


WITHOUT_DESCRIPTORS = """
import json, logging, os, resource, socket, sys
import trio, uring_trio
from trio.testing import MockClock

logged = []
class Keep(logging.Handler):
    def emit(self, record):
        logged.append(record.getMessage())
logging.getLogger("uring_trio.net.listener").addHandler(Keep())

async def main():
    served = 0
    async with trio.open_nursery() as nursery:
        listener = await nursery.start(uring_trio.listen_tcp, "127.0.0.1", 0)
        clients = [socket.socket() for _ in range(6)]
        top = max(int(name) for name in os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (top + 3, top + 3))
        for client in clients:
            client.connect(listener.address)
        held = []
        async with listener.connections() as incoming:
            async def make_room():
                while not logged:
                    await trio.lowlevel.checkpoint()
                while held:
                    await held.pop().aclose()
            nursery.start_soon(make_room)
            async for stream in incoming:
                served += 1
                if logged:
                    await stream.aclose()
                else:
                    held.append(stream)
                if served == len(clients):
                    break
        nursery.cancel_scope.cancel()
    for client in clients:
        client.close()
    print(json.dumps([served, logged]))

uring_trio.run(main)
"""


def test_goes_on_when_descriptors_run_out() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_DESCRIPTORS], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    served, logged = json.loads(done.stdout)
    assert served == 6
    assert logged
    assert all("Too many open files" in line for line in logged)
