"""The steps on pipes, raw descriptors and children."""

from __future__ import annotations

import os
import select
import signal
import socket
from typing import Any

import trio

from .world import Missing, World, call, given

PATIENCE = 3
"""Seconds after which a child that still runs is killed, by its own alarm."""


@given
def pipe(world: World, reader: str, writer: str) -> None:
    r, w = os.pipe()
    world.objects[reader] = trio.lowlevel.FdStream(r)
    world.objects[writer] = trio.lowlevel.FdStream(w)


@given
def raw(world: World, kind: str, name: str) -> None:
    """A descriptor; ``feed`` makes it ready."""
    match kind:
        case "regular":
            fd = os.open("regular", os.O_RDWR | os.O_CREAT)
        case "folder":
            fd = os.open(".", os.O_RDONLY)
        case "null":
            fd = os.open("/dev/null", os.O_RDWR)
        case "zero":
            fd = os.open("/dev/zero", os.O_RDWR)
        case "pipe-read":
            fd, other = os.pipe()
            world.objects[name + "-far"] = other
        case "pipe-write":
            other, fd = os.pipe()
            os.set_blocking(fd, False)
            world.objects[name + "-far"] = other
        case "eventfd":
            fd = os.eventfd(0)
        case "socket":
            one, two = socket.socketpair()
            fd, world.objects[name + "-far"] = one.detach(), two.detach()
        case "epoll":
            with select.epoll() as poller:
                fd = os.dup(poller.fileno())
        case "closed":
            fd = os.open("/dev/null", os.O_RDWR)
            os.close(fd)
        case _:
            raise Missing
    world.objects[name] = fd


@given
def feed(world: World, name: str) -> Any:
    far = world.objects.get(name + "-far")
    return os.write(world.fileno(name) if far is None else far, b"\1" * 8)


@given
async def number(world: World, name: str, new: str, detach: bool) -> None:
    """The raw descriptor of a socket."""
    sock = world.socket(name)
    world.valid(name)
    if detach:
        await world.settle()
        world.check_idle(name)
        world.objects[new] = sock.detach()
        del world.objects[name]
    else:
        world.objects[new] = os.dup(sock.fileno())


@given
def dup_number(world: World, name: str, new: str) -> None:
    world.objects[new] = os.dup(world.fileno(name))


@call
async def readable(world: World, name: str) -> Any:
    return await trio.lowlevel.wait_readable(world.valid(name))


@call
async def writable(world: World, name: str) -> Any:
    return await trio.lowlevel.wait_writable(world.valid(name))


@given
def notify_closing(world: World, name: str) -> Any:
    return trio.lowlevel.notify_closing(world.fileno(name))


# ---- children ------------------------------------------------------------------------------------


def forked(work: Any) -> tuple[int, int]:
    """A child that does ``work`` and ends; its id, and the pipe that brings what it said."""
    r, w = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(PATIENCE)
            os.close(r)
            os.write(w, work().encode())
        finally:
            os._exit(0)
    os.close(w)
    return child, r


def heard(child: int, r: int) -> str:
    said = b""
    while part := os.read(r, 65536):
        said += part
    os.close(r)
    os.waitpid(child, 0)
    return said.decode()


@given
def in_child(world: World, name: str, what: str) -> str:
    """A child that does one thing with the socket, and ends."""
    sock = world.inner(name)
    try:
        os.fstat(sock.fileno())
    except OSError:
        raise Missing from None  # its number may be that of the child's own sockets
    data = world.data(9)

    def work() -> str:
        try:
            match what:
                case "send":
                    return str(sock.send(data, socket.MSG_DONTWAIT))
                case "recv":
                    return world.names.content(sock.recv(1000, socket.MSG_DONTWAIT))
                case "shutdown":
                    sock.shutdown(socket.SHUT_WR)
                case "close":
                    sock.close()
                case "accept":
                    sock.accept()[0].close()
                case "connect-accept":
                    with socket.socket(sock.family) as client:
                        client.settimeout(1)
                        client.connect(sock.getsockname())
                        select.select([sock], [], [], 1)
                        sock.accept()[0].close()
        except OSError as error:
            return world.names.error(error)
        return "done"

    return heard(*forked(work))


@given
def hold_in_child(world: World, name: str) -> None:
    """A child that holds what is open now until it is killed."""
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(60)
            while True:
                signal.pause()
        finally:
            os._exit(0)
    world.children[name] = child


@given
def end_child(world: World, name: str) -> str:
    if name not in world.children:
        raise Missing
    child = world.children.pop(name)
    os.kill(child, signal.SIGKILL)
    return str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
