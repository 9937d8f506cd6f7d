"""The steps on sockets, listeners and the streams made of them."""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import Any

import trio

from .world import Missing, World, call, finishing, given

FLAGS = {
    "": 0,
    "peek": socket.MSG_PEEK,
    "dontwait": socket.MSG_DONTWAIT,
    "waitall": socket.MSG_WAITALL,
    "trunc": socket.MSG_TRUNC,
    "oob": socket.MSG_OOB,
    "errqueue": socket.MSG_ERRQUEUE,
    "nosignal": socket.MSG_NOSIGNAL,
    "more": socket.MSG_MORE,
    "eor": socket.MSG_EOR,
}
SO_TIMESTAMPING = 37
TIMESTAMPS_OF_SENDS = 1 << 1 | 1 << 4 | 1 << 11
"""Software stamps of sends, reported without their data."""
IP_RECVERR = 11
WRONG: dict[str, Any] = {
    "none": None,
    "text": "text",
    "negative": -1,
    "huge": 1 << 62,
    "float": 1.5,
    "list": [1, 2],
    "nothing": b"",
    "object": object(),
}


# ---- making them ---------------------------------------------------------------------------------


def stdlib_pair(kind: str) -> tuple[socket.socket, socket.socket]:
    match kind:
        case "unix":
            return socket.socketpair()
        case "seqpacket":
            return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        case "dgram":
            return socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        case "udp":
            a, b = (socket.socket(type=socket.SOCK_DGRAM) for _ in range(2))
            a.bind(("127.0.0.1", 0))
            b.bind(("127.0.0.1", 0))
            a.connect(b.getsockname())
            b.connect(a.getsockname())
            return a, b
    family, host = (socket.AF_INET6, "::1") if kind == "tcp6" else (socket.AF_INET, "127.0.0.1")
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, 0))
        listener.listen(1)
        client = socket.socket(family)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        client.connect(listener.getsockname())
        return client, listener.accept()[0]


@given
def pair(world: World, kind: str, a: str, b: str) -> None:
    base, _, plain = kind.partition("-")
    one, two = stdlib_pair(base)
    one.setblocking(False)
    two.setblocking(False)
    world.objects[a] = trio.socket.from_stdlib_socket(one)
    world.objects[b] = two if plain else trio.socket.from_stdlib_socket(two)


def made(world: World, kind: str, name: str) -> Any:
    family, sort = {
        "tcp": (socket.AF_INET, socket.SOCK_STREAM),
        "udp": (socket.AF_INET, socket.SOCK_DGRAM),
        "unix": (socket.AF_UNIX, socket.SOCK_STREAM),
        "dgram": (socket.AF_UNIX, socket.SOCK_DGRAM),
    }[kind]
    world.objects[name] = sock = trio.socket.socket(family, sort)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return sock


def fresh_address(world: World, sock: Any) -> Any:
    return world.path() if sock.family == socket.AF_UNIX else ("127.0.0.1", 0)


@given
async def make(world: World, kind: str, name: str, like: str = "") -> None:
    if kind == "like":
        made(world, "unix" if world.socket(like).family == socket.AF_UNIX else "tcp", name)
        return
    sock = made(world, kind, name)
    if kind in ("udp", "dgram"):
        await sock.bind(fresh_address(world, sock))


@given
async def listen(world: World, kind: str, name: str, backlog: int) -> None:
    sock = made(world, kind, name)
    await sock.bind(fresh_address(world, sock))
    sock.listen(backlog)


@given
def connect_plain(world: World, listener: str, name: str) -> None:
    address, family = world.socket(listener).getsockname(), world.socket(listener).family
    world.objects[name] = sock = socket.socket(family)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setblocking(False)
    sock.connect(address)


@given
def as_stream(world: World, name: str, new: str) -> None:
    sock = world.socket(name)
    stream = trio.SocketStream(sock)
    del world.objects[name]
    world.objects[new] = stream


@given
def as_listener(world: World, name: str, new: str) -> None:
    listener = trio.SocketListener(world.socket(name))
    del world.objects[name]
    world.objects[new] = listener


@given
def dup(world: World, name: str, new: str) -> None:
    world.objects[new] = world.socket(name).dup()


@given
async def adopt(world: World, name: str, new: str, how: str) -> None:
    """A Trio socket of a descriptor that was another's."""
    sock = world.socket(name)
    if how == "dup":
        other = socket.socket(fileno=os.dup(sock.fileno()))
    else:
        await world.settle()
        world.check_idle(name)
        other = socket.socket(fileno=sock.detach())
    other.setblocking(False)
    world.objects[new] = trio.socket.from_stdlib_socket(other)


# ---- calls that may wait -------------------------------------------------------------------------


def optional(flags: str, *before: int) -> tuple[int, ...]:
    """Flags, and the arguments before them, where there are flags: what is called without may be in C."""
    return (*before, FLAGS[flags]) if flags else ()


@call
async def recv(world: World, name: str, size: int, flags: str) -> Any:
    return await world.socket(name).recv(size, *optional(flags))


@call
async def recv_into(world: World, name: str, size: int, flags: str) -> Any:
    memory = bytearray(size)
    received = await world.socket(name).recv_into(memory, *optional(flags, 0))
    return received, memory[:received]


@call
async def recvfrom(world: World, name: str, size: int, flags: str) -> Any:
    return await world.socket(name).recvfrom(size, *optional(flags))


@call
async def recvfrom_into(world: World, name: str, size: int, flags: str) -> Any:
    memory = bytearray(size)
    received, address = await world.socket(name).recvfrom_into(memory, *optional(flags, 0))
    return received, memory[:received], address


def controls(found: list[tuple[int, int, bytes]]) -> list[tuple[int, int]]:
    """The kinds of ancillary data; descriptors in them are closed."""
    for level, kind, data in found:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            for (fd,) in struct.iter_unpack("i", data[: len(data) - len(data) % 4]):
                os.close(fd)
    return [(level, kind) for level, kind, _ in found]


@call
async def recvmsg(world: World, name: str, size: int, flags: str) -> Any:
    data, found, flag, address = await world.socket(name).recvmsg(size, 200, FLAGS[flags])
    return data, controls(found), flag, address


@call
async def recvmsg_into(world: World, name: str, size: int, flags: str) -> Any:
    memory = [bytearray(size // 2), bytearray(size - size // 2)]
    received, found, flag, address = await world.socket(name).recvmsg_into(memory, 200, FLAGS[flags])
    return received, b"".join(memory)[:received], controls(found), flag, address


def sent(data: bytes, count: int) -> Any:
    return "all" if count == len(data) else "a part" if len(data) >= 5000 else count


@call
async def send(world: World, name: str, size: int, flags: str) -> Any:
    world.urgent |= flags == "oob"
    data = world.data(size)
    return sent(data, await world.socket(name).send(data, *optional(flags)))


@call
async def sendmsg(world: World, name: str, size: int, flags: str) -> Any:
    world.urgent |= flags == "oob"
    data = world.data(size)
    parts = [data[: size // 3], data[size // 3 :]]
    return sent(data, await world.socket(name).sendmsg(parts, [], FLAGS[flags]))


def place(world: World, where: str, sock: Any, other: str) -> Any:
    unix = sock.family == socket.AF_UNIX
    match where:
        case "own" | "other":
            return world.socket(other).getsockname()
        case "closed-port":
            with socket.socket(type=socket.SOCK_DGRAM) as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
            world.names.ports[port] = "closed port"
            return ("127.0.0.1", port)
        case "wrong-family":
            return ("127.0.0.1", 9) if unix else "path"
        case "missing-path":
            return "missing/path"
        case "text":
            return "text"
        case "none":
            return None
        case "short":
            return ("127.0.0.1",)
        case "big-port":
            return ("127.0.0.1", 70_000)
    raise Missing


@call
async def sendto(world: World, name: str, size: int, where: str, other: str) -> Any:
    sock, data = world.socket(name), world.data(size)
    return sent(data, await sock.sendto(data, place(world, where, sock, other)))


@call
async def connect(world: World, name: str, where: str, other: str) -> Any:
    sock = world.socket(name)
    task = world.own_task()
    if task.step.scope:
        world.check_idle(name, but=task)  # a cancelled connect closes the socket
    return await sock.connect(place(world, where, sock, other))


@finishing
async def bind(world: World, name: str, where: str, other: str) -> Any:
    sock = world.socket(name)
    return await sock.bind(fresh_address(world, sock) if where == "own" else place(world, where, sock, other))


@call
async def accept(world: World, name: str, new: str) -> Any:
    sock, address = await world.socket(name).accept()
    world.objects[new] = sock
    return sock, address


@call
async def accept_stream(world: World, name: str, new: str) -> Any:
    stream = await world.get(name).accept()
    world.objects[new] = stream
    return stream.socket


@call
async def recv_wrong(world: World, name: str, what: str) -> Any:
    return await world.socket(name).recv(WRONG[what])


@call
async def recv_into_wrong(world: World, name: str, what: str) -> Any:
    return await world.socket(name).recv_into(WRONG[what])


@call
async def recvfrom_wrong(world: World, name: str, what: str) -> Any:
    return await world.socket(name).recvfrom(WRONG[what])


@call
async def recvmsg_wrong(world: World, name: str, what: str) -> Any:
    return await world.socket(name).recvmsg(10, WRONG[what])


@call
async def send_wrong(world: World, name: str, what: str) -> Any:
    return await world.socket(name).send(WRONG[what])


@call
async def sendto_wrong(world: World, name: str, what: str) -> Any:
    return await world.socket(name).sendto(b"", WRONG[what], world.socket(name).getsockname())


@call
async def sendmsg_wrong(world: World, name: str, what: str) -> Any:
    return await world.socket(name).sendmsg(WRONG[what])


# ---- calls of streams ----------------------------------------------------------------------------


@call
async def send_all(world: World, name: str, size: int) -> Any:
    return await world.stream(name).send_all(world.data(size))


@call
async def receive_some(world: World, name: str, size: int | None) -> Any:
    return await world.stream(name).receive_some(size)


@call
async def send_eof(world: World, name: str) -> Any:
    return await world.get(name).send_eof()


@call
async def aclose(world: World, name: str) -> Any:
    return await world.get(name).aclose()


@call
async def might_not_block(world: World, name: str) -> Any:
    return await world.get(name).wait_send_all_might_not_block()


# ---- calls that do not wait ----------------------------------------------------------------------


@given
def cancel(world: World, number: int) -> None:
    if number not in world.tasks:
        raise Missing
    task = world.tasks[number]
    if task.step.do == "connect" and not task.done.is_set():
        world.check_idle(task.step.args[0], but=task)  # it closes the socket
    task.scope.cancel()


@given
def close(world: World, name: str) -> Any:
    return world.socket(name).close()


@given
def shutdown(world: World, name: str, how: int) -> Any:
    return world.socket(name).shutdown(how)


@given
def reset(world: World, name: str) -> Any:
    """Closes so that the peer of a TCP connection gets a reset."""
    sock = world.socket(name)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return sock.close()


@given
async def behind(world: World, how: str, name: str) -> Any:
    """Closes the descriptor without Trio's notice."""
    await world.settle()
    world.check_idle(name, raw=False)
    match how:
        case "os.close":
            return os.close(world.fileno(name))
        case "inner":
            return world.inner(name).close()
    fd = world.socket(name).fileno()
    if fd < 0:
        raise Missing
    return socket.socket(fileno=fd).close()


@given
def option(world: World, name: str, what: str) -> Any:
    sock = world.socket(name)
    match what:
        case "linger0":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        case "small-buffers":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 10_000)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 10_000)
        case "recverr":
            sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
        case "timestamps":
            sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING, TIMESTAMPS_OF_SENDS)
        case "nodelay":
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        case "reuse":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        case "rcvlowat":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 50)
        case "keepalive":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        case "passcred":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        case "oobinline":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)


@given
def look(world: World, name: str) -> Any:
    """What the socket says about itself; asking for its error takes it."""
    sock, said = world.socket(name), []
    for ask in (
        lambda: sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR),
        sock.getsockname,
        sock.getpeername,
        lambda: sock.fileno() >= 0,
        lambda: (sock.family, sock.type, sock.proto),
        lambda: getattr(sock, "is_readable", lambda: None)(),
        lambda: getattr(sock, "did_shutdown_SHUT_WR", None),
    ):
        try:
            said.append(world.names.value(ask()))
        except Exception as error:
            said.append(world.names.error(error))
    return "; ".join(said)


def as_number(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, str(error))


@given
async def drain(world: World, name: str) -> str:
    """Everything that can be received now, and how it ends."""
    try:
        sock = world.inner(name)
    except Missing:
        fd = world.unblocking(name)
        return await drained(world, lambda: os.read(fd, 65536), False)
    datagrams = sock.type == socket.SOCK_DGRAM
    return await drained(world, lambda: sock.recv(1 << 20, socket.MSG_DONTWAIT), datagrams)


async def drained(world: World, read: Any, datagrams: bool) -> str:
    pieces: list[bytes] = []
    end = ""
    idle = 0
    while not end and idle < 2 and len(pieces) < 1000:
        try:
            data = read()
        except BlockingIOError:
            idle += 1
            await world.settle()
            continue
        except OSError as error:
            end = as_number(error)
            if end == "ECONNRESET" and world.urgent:
                end = "end"
            break
        idle = 0
        if not data and not datagrams:
            end = "end"
        pieces.append(data)
    if datagrams:
        text = " ".join(map(world.names.content, pieces))
    else:
        text = world.names.content(b"".join(pieces))
    return f"{text} {end}"


@given
async def fill(world: World, name: str) -> str:
    """Sends until no more goes in."""
    data, end = world.data(1 << 16), ""
    world.names.large.add(data[0])
    try:
        sock = world.inner(name)
    except Missing:
        fd = world.unblocking(name)

        def write(part: bytes) -> int:
            return os.write(fd, part)
    else:
        if sock.type != socket.SOCK_STREAM:
            data = data[:2000]

        def write(part: bytes) -> int:
            return sock.send(part, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

    idle = 0
    for _ in range(2000):
        try:
            write(data)
        except BlockingIOError:
            idle += 1
            if idle == 3:
                break
            await world.settle()
        except OSError as error:
            end = as_number(error)
            break
    return end or "full"


@given
def put(world: World, name: str, size: int) -> Any:
    data = world.data(size)
    return sent(data, world.inner(name).send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL))


@given
def put_oob(world: World, name: str) -> Any:
    world.urgent = True
    return world.inner(name).send(world.data(1), socket.MSG_OOB | socket.MSG_DONTWAIT)
