"""The arguments of random calls: descriptors, memory, paths and addresses that are this process's own.

Everything here may be read, written, truncated, closed or shut down by any operation. Nothing else can be: a
descriptor is one of this process or a number that no process has, a path stays in a temporary folder, an
address is of loopback, memory belongs to the test, and no file can grow past a limit. `argument` picks a
value for a parameter by its name: mostly one that makes sense, at times anything.
"""

from __future__ import annotations

import contextvars
import ctypes
import fcntl
import mmap
import os
import select
import socket
import struct
from typing import TYPE_CHECKING, Any

import uring
from uring import Ring, abi, ops

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

FIRST_FD = 100
"""Our descriptors start here: a number that is used after its end is then nobody's, not the interpreter's."""
SOCKETS = 10
"""How many of them are made before the sockets."""
NO_FDS = (-1, -2, 1 << 20, (1 << 31) - 1, 1 << 31, 1 << 40)
KEPT = 8  # objects of each type to call methods of

SMALL = (0, 1, 2, 3, 4, 7, 8, 16, 63, 64, 100, 255, 256, 1000, 4095, 4096)
LARGE = (65535, 65536, 1 << 31, (1 << 31) - 1, (1 << 32) - 1, 1 << 32, 1 << 62, (1 << 63) - 1, 1 << 63)
LARGE += ((1 << 64) - 1, 1 << 64, 10**30)
NEGATIVE = (-1, -2, -(1 << 31), -(1 << 31) - 1, -(1 << 63), -(10**30))
IMPOSSIBLE = (1 << 62, (1 << 63) - 1, 1 << 64, 10**30, -1)

NAMES = ("a", "b", "c", "d", "d/a", "d/b", b"a", "link", "missing/x", "", "a\0b", "x" * 300, ".")
XATTRS = ("user.a", "user.b", b"user.c", "user." + "x" * 300, "a", "")
FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
ADVICE = (*range(24), -1, 1 << 31)
"""For madvise: 100 and 101 would poison memory of the machine."""

ALLOCATING = {
    *("aligned_mem_block.size", "BufferPool.capacity", "BufferPool.size", "RegisterBufferPool.capacity"),
    *("RegisterBufferPool.size", "MemRegion.size", "register_mem_region.size", "WaitRegion.entries"),
    *("register_buf_ring.entries", "register_buf_ring.size", "register_buf_ring_mmap.entries"),
    *("register_buf_ring_mmap.size", "register_buf_ring_incremental.entries", "ContextPools.capacity"),
    *("register_buf_ring_incremental.size", "register_buf_ring_with_flags.entries", "Message.name_size"),
    *("register_buf_ring_with_flags.size", "register_wait_region.entries", "Message.control_size"),
    *("register_files_sparse.count", "register_buffers_sparse.count", "epoll_wait.max_events"),
    *("getsockopt.size", "resize_rings.new_sq_size", "resize_rings.new_cq_size", "reset.name_size"),
    *("reset.control_size", "ZCRXConfig.area_size", "ZCRXConfig.rq_entries", "ZCRXConfig.chunk_size"),
    *("register_zcrx_ifq.rq_entries", "provide_buffers.size", "clone_buffers.count"),
}
"""Parameters that say how much memory to make: small, or more than there can be."""

OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {},
    {"entries": 8},
    {"entries": 4, "cq_entries": 4},
    {"entries": 1},
    {"multi_issuers": True},
    {"sqe128": True, "cqe32": True},
    {"cqe_mixed": True},
    {"no_mmap": True},
    {"no_mmap": True, "registered_fd": True},
    {"indirect_submission_queue": True},
    {"submit_all": True},
    {"notify_succeed": True},
    {"sqpoll": True, "sq_thread_idle": 1},
    {"iopoll": True},
    {"read_buffer_num": 8, "read_buffer_size": 64, "read_buffer_gid_offset": 1},
    {"write_buffer_num": 4, "locked_buffer_mem": 65536},
    {"multi_size_buffer": 1, "buffer_groups": uring.BufferGroupsConfig(pico_num=8, nano_num=8)},
    {"context_capacity": 2},
)


class World:
    """The objects and values of one episode, and its ring."""

    def __init__(self, rng: random.Random, number: int) -> None:
        self.rng = rng
        self.fds: list[int] = []
        self.sockets: list[socket.socket] = []
        self.memory: list[Any] = [
            bytearray(4096),
            bytearray(64),
            bytearray(1),
            bytearray(),
            b"some bytes",
            memoryview(bytearray(256))[16:64],
            mmap.mmap(-1, 2 * mmap.PAGESIZE),
            memoryview(mmap.mmap(-1, mmap.PAGESIZE)),
            uring.aligned_mem_block(),
        ]
        self.things: dict[type, list[Any]] = {}
        self.handlers = handlers()
        self._open()
        self.options = OPTIONS[number % len(OPTIONS)]
        self.ring = self._ring(self.options)
        self.other = self._ring({"entries": 4})
        if rng.random() < 0.7:
            self._register()
        for thing in (self.ring, self.other, self.ring.pools, uring.ContextPools(4)):
            self.keep(thing)
        if self.ring.options.multi_size_buffer:
            self.keep(self.ring.buffer_groups)

    def _ring(self, options: dict[str, Any]) -> Ring:
        ring = Ring(**{"entries": 16, "drain_timeout": 2.0, **options})
        if self.rng.random() < 0.2 and not options.get("sqpoll"):
            self.keep(ring.register_wait_region(4))
        ring.start()
        return ring

    def _open(self) -> None:
        for name in ("a", "b"):
            with open(name, "wb") as file:
                file.write(os.urandom(8192))
        os.makedirs("d", exist_ok=True)
        for fd in (
            *os.pipe(),
            *os.pipe(),
            os.open("a", os.O_RDWR),
            os.open("b", os.O_RDONLY),
            os.memfd_create("m"),
        ):
            self._adopt(fd)
        with select.epoll() as epoll:
            self._adopt(os.dup(epoll.fileno()))
        for fd in (os.eventfd(0, os.EFD_NONBLOCK), os.open("d", os.O_RDONLY)):
            self._adopt(fd)
        assert len(self.fds) == SOCKETS
        near, far = socket.socketpair()
        listener = socket.create_server(("127.0.0.1", 0))
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind(("127.0.0.1", 0))
        self.address = listener.getsockname()
        self.udp_address = udp.getsockname()
        for sock in (
            near,
            far,
            listener,
            client,
            server,
            udp,
            socket.socket(),
            socket.socket(socket.AF_INET6),
        ):
            self._adopt(sock.detach())

    def _adopt(self, fd: int) -> None:
        self.fds.append(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, FIRST_FD))
        os.close(fd)

    def _register(self) -> None:
        self.ring.register_files([*self.fds[:8], -1])
        if not self.ring.registered_buffer_count:
            self.ring.register_buffers([bytearray(4096), bytearray(64), uring.aligned_mem_block()])
        for group, size in ((1, 64), (2, 4096)):
            try:
                self.keep(self.ring.register_buf_ring(8, group, size))
            except OSError:
                pass  # the options made one
        incremental = self.ring.register_buf_ring_incremental(8, 9, 4096)
        self.keep(incremental)
        self.keep(self.ring.bundle_iterator(uring.CQEView((0, 200, 1)), 1))
        self.keep(uring.IncrementalReceiver(self.ring, self.ring.pools, incremental))

    def keep(self, thing: object) -> None:
        """Remembers an object of the library's, to call its methods and to pass it on."""
        if isinstance(thing, (list, tuple)) and not type(thing).__module__.startswith("uring"):
            for each in thing[:3]:
                self.keep(each)
        elif type(thing).__module__.split(".")[0] == "uring":
            kept = self.things.setdefault(type(thing), [])
            if len(kept) < KEPT:
                kept.append(thing)
            else:
                kept[self.rng.randrange(KEPT)] = thing

    def close(self) -> None:
        self.ring.stop()
        self.other.stop()

    # ---- values ----------------------------------------------------------------------------------------

    def some(self, *types: type) -> Any:
        """A kept object of one of these types, or None."""
        # A list first: another thread may keep something meanwhile.
        found = [
            thing for kind, kept in list(self.things.items()) if issubclass(kind, types) for thing in kept
        ]
        return self.rng.choice(found) if found else None

    def fd(self) -> Any:
        draw = self.rng.random()
        if draw < 0.86:
            return self.rng.choice(self.fds)
        if draw < 0.9:
            return Holder(self.rng.choice(self.fds))
        return self.rng.choice((*NO_FDS, None, "x", 1.5, 10**30))

    def context(self) -> Any:
        draw = self.rng.random()
        if draw < 0.2:
            return None
        if draw < 0.45:
            return self.rng.randrange(50)
        if draw < 0.6:
            return uring.for_fd(self.rng.choice(self.fds))
        slot = self.some(uring.IndirectSQE, uring.ExtSQE) if draw < 0.85 else None
        if slot is not None:
            return slot.context
        kept = self.some(uring.SQEContext)
        return kept if kept is not None and draw < 0.95 else self.number()

    def number(self) -> int:
        draw = self.rng.random()
        return self.rng.choice(SMALL if draw < 0.6 else LARGE if draw < 0.85 else NEGATIVE)

    def size(self) -> int:
        return self.rng.choice(SMALL if self.rng.random() < 0.9 else IMPOSSIBLE)

    def stranger(self) -> Any:
        """Something that a parameter was not made for. No number: it could be a descriptor."""
        values: tuple[Any, ...] = (
            None,
            "x",
            b"abc",
            1.5,
            float("nan"),
            float("inf"),
            object(),
            [],
            (),
            {},
            *NO_FDS,
        )
        values += (
            bytearray(8),
            print,
            [None],
            [b"x"],
            [1 << 40],
            ((),),
            Ring,
            self.some(uring.Op, uring.Ring),
        )
        return self.rng.choice(values)

    def buffer(self) -> Any:
        return self.rng.choice(self.memory)

    def op(self) -> Any:
        return self.some(uring.Op) or ops.nop()

    def requests(self) -> list[Any]:
        return [(self.op(), self.context()) for _ in range(self.rng.randrange(5))]

    def socket_name(self) -> bytes:
        """A raw address: of loopback, or none."""
        ours = struct.pack("=H", socket.AF_INET) + struct.pack("!H4s8x", self.udp_address[1], b"\x7f\0\0\1")
        return self.rng.choice((b"", ours, ours[:5], b"\xff" * 16, b"\xff" * 200, b"\0"))

    def inet_address(self) -> Any:
        port = self.rng.choice((0, self.address[1], self.udp_address[1], 1, -1, 65536))
        return self.rng.choice(
            (
                ("127.0.0.1", port),
                ("::1", port),
                ("::1", port, 0, 0),
                ("x", port),
                ("", port),
                "d/s",
                b"\0uring",
                "",
                (),
            )
        )

    def completion(self) -> Any:
        if self.rng.random() < 0.8:
            found = self.some(uring.CQEView, uring.DirectCQE, uring.ExtCQE)
            if found is not None:
                return found
        kind = self.rng.choice((uring.CQEView, uring.DirectCQE, uring.ExtCQE))
        # Not of a slot that is borrowed: nobody could tell that from the kernel's own.
        user_data = self.rng.choice(
            (0, 1, 5, 1 << 62, 2 << 62, 3 << 62, (1 << 64) - 1, self.rng.getrandbits(64))
        )
        return kind(
            (user_data & (1 << 64) - 1, self.rng.choice((0, 5, -1, -105, 4096)), self.rng.getrandbits(19))
        )


class Holder:
    """Something that has a descriptor."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def fileno(self) -> int:
        return self._fd


def handlers() -> list[Any]:
    stop = uring.MultishotHandler.from_callbacks(on_step=lambda step: uring.MultishotAction.STOP)
    found = [uring.MultishotHandler(), stop, uring.ListenerHandler(), uring.ZCHandler()]
    return [*found, uring.IncrementalHandler(), uring.ZCRXHandler()]


def chosen(*values: Any) -> Callable[[World], Any]:
    return lambda world: world.rng.choice(values)


def several(make: Callable[[World], Any], most: int = 4) -> Callable[[World], list[Any]]:
    return lambda world: [make(world) for _ in range(world.rng.randrange(most + 1))]


def a(*kinds: type) -> Callable[[World], Any]:
    return lambda world: world.some(*kinds)


flag = chosen(False, False, True)
number, buffer, fd, size = World.number, World.buffer, World.fd, World.size
path = chosen(*NAMES)
small = chosen(0, 1, 2, 3, 4, 7, 8, 63)
group = chosen(0, 1, 1, 2, 2, 3, 65535, 65536)
slots = chosen(0, 1, 2, 3, 7, 8, int(abi.IORING_FILE_INDEX_ALLOC), None, 1 << 20)

LIKELY: dict[str, Callable[[World], Any]] = {
    **dict.fromkeys(("fd", "fd_in", "fd_out", "epfd", "file", "ring_fd"), fd),
    **dict.fromkeys(("dir_fd", "src_dir_fd", "dst_dir_fd"), lambda w: w.rng.choice((None, None, w.fd()))),
    **dict.fromkeys(("fds", "targets"), several(fd)),
    **dict.fromkeys(("ctx", "user_data", "new_user_data", "context", "raw"), World.context),
    **dict.fromkeys(("buffer", "data", "value", "memory", "word", "area", "region", "destination"), buffer),
    **dict.fromkeys(("buffers",), several(buffer)),
    **dict.fromkeys(("path", "src", "dst", "target"), path),
    **dict.fromkeys(
        ("n", "length", "offset", "index", "capacity", "count", "entries", "budget", "level"), number
    ),
    **dict.fromkeys(("size", "buf_size", "buffer_size", "name_size", "control_size", "entries"), size),
    **dict.fromkeys(("buffer_group", "group", "buf_group"), group),
    **dict.fromkeys(("buf_index", "first_id", "bid", "zcrx_ifq_index", "source_index"), small),
    **dict.fromkeys(("file_index",), slots),
    **dict.fromkeys(("sqe_flags",), chosen(0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 64, 255, 256)),
    **dict.fromkeys(("personality", "ioprio"), chosen(0, 0, 0, 1, 65535)),
    **dict.fromkeys(
        ("duration", "min_wait"), chosen(0.0, 0.001, 1e-9, -1.0, float("nan"), float("inf"), 1e9)
    ),
    **dict.fromkeys(("op", "one"), World.op),
    **dict.fromkeys(("ext", "sqe"), a(uring.ExtSQE)),
    **dict.fromkeys(("requests",), World.requests),
    **dict.fromkeys(("pool", "pools"), a(uring.ContextPools)),
    "name": chosen(*XATTRS),
    "opcode": chosen(*range(66), 255, 256, -1),
    "family": lambda world: (
        world.rng.choice((*FAMILIES, 0, 16, 17, 40, -1, 1 << 16))
        if world.rng.random() < 0.8
        else world.inet_address()
    ),
    "type": chosen(1, 2, 3, 5, 1 | 1 << 19, 99, -1),
    "protocol": chosen(0, 0, 6, 17, 136, 255, -1),
    "address": World.inet_address,
    "flags": chosen(0, 0, 0, 1, 2, 64, 0o100, 0o2000000, 1 << 31, 1 << 32, -1),
    "mask": chosen(0, 1, 4, 5, 0x2001, 4095, 1 << 31, (1 << 32) - 1, 1 << 32),
    "advice": chosen(*ADVICE),
    "mode": chosen(0, 1, 2, 3, 16, 0o600),
    "file_mode": chosen(0o600, 0o700, 0, None, 1 << 20),
    "resolve": chosen(0, 0, 8, 0xFF, 1 << 40),
    "offset_in": chosen(None, 0, 1, 4096, -1, 1 << 63),
    "offset_out": chosen(None, 0, 1, 4096, -1, 1 << 63),
    "how": chosen(0, 1, 2, 3, -1),
    "optname": chosen(*range(60), -1),
    "ancillary": several(lambda w: (w.rng.choice((0, 1, 41)), w.rng.choice((1, 2, 50)), w.buffer()), 2),
    "message": lambda w: w.some(uring.Message) if w.rng.random() < 0.3 else w.number(),
    "waiters": several(lambda w: (w.buffer(), w.rng.choice((0, 1, (1 << 32) - 1, -1)))),
    "extra": chosen((0, 0), (1, 2), ((1 << 64) - 1, -1), (1,)),
    "ioprio_class": chosen(None, None, (0, 0), (3, 7), (4, 8), (1,)),
    "kind": chosen(ctypes.c_int, ctypes.c_uint64 * 8, ctypes.c_uint64 * 9, int),
    "cqe": World.completion,
    "batch": a(uring.Batch),
    "indirect": a(uring.IndirectSQE),
    "buf_backing": buffer,
    "ring": lambda w: w.rng.choice((w.ring, w.ring, w.other)),
    "source": lambda w: w.rng.choice((w.ring, w.other, -1, 1 << 20)),
    "timeout": chosen(0.0, 0.0, 0.001, -1, float("nan"), "x", True),
    "max_cqes": chosen(64, 64, 1, 3, 0, -1, "x"),
    "bounded": chosen(0, 0, 4, -1),
    "unbounded": chosen(0, 0, 4, -1),
    "cpus": several(chosen(0, 1, 7, -1, 10**6), 2),
    "tags": lambda w: w.rng.choice(((), (), (1, 2), (0,), (-1,), (1 << 64,))),
    "restrictions": several(lambda w: (w.rng.randrange(5), w.rng.randrange(70)), 3),
    "clock_id": chosen(1, 7, 0, 99),
    "idtype": chosen(0, 1, 2, 3, 99),
    "id": chosen(-1, 1 << 22, 1 << 31),
    "options": chosen(4, 5, 0x01000004, 0, -1),
    "refs": chosen(0, 1, 3, 7, 8, -1),
    "vals": chosen(0, 1, 3, 7, 8, -1),
    "fn": lambda w: w.rng.choice((lambda ext: ext, lambda ext: w.ring.nop(ext.context), lambda ext: 1 // 0)),
    "factory": chosen(lambda: bytearray(64), lambda: b"", lambda: None),
    "system_memory": number,
    "context_": lambda w: contextvars.copy_context(),
    "if_name": chosen("lo", "none", ""),
    "config": lambda w: uring.ZCRXConfig("lo", 0, area_size=65536, rq_entries=8),
    "queue": chosen(None),
}
"""A value that makes sense, by the parameter's name."""

NEVER_STRANGE = {
    *("fd", "fds", "timeout", "advice", "address"),  # what is given reaches the kernel, and must be ours
    *("ring", "pool", "handler", "fn", "factory"),  # whatever has the methods will do
}


def argument(world: World, callee: str, name: str, annotation: str) -> Any:
    """A value for a parameter: its name says of what kind."""
    if callee in ("context_user_data", "context_with_user_data") and name == "context":
        return contextvars.copy_context()
    if callee in ("sendmsg", "sendmsg_zc", "Message") and name == "name":
        return world.socket_name()
    if f"{callee}.{name}" in ALLOCATING:
        return world.size()
    if callee in ("register_wait_region", "wait_registered") and name == "index":
        return world.rng.choice((0, 0, 1, -1, 1 << 20))
    if callee in ("recycle", "of") and name == "ring":
        return world.some(uring.BufferRing)
    if callee == "BundleIterator" and name in ("buf_size", "ring_entries"):
        return world.rng.choice((8, 8, 16, 0))
    if name == "op" and "int" in annotation:
        return world.rng.choice((*range(64), 256, -1))
    if name == "fd_in" and callee == "splice":
        # No socket: one that blocks keeps the pipe locked, and a read of that then sleeps beyond all signals.
        return world.rng.choice(world.fds[:SOCKETS])
    if name == "timeout" and callee == "set":
        return world.rng.choice((0.0, 0.001, 0.002, -1))
    if name not in NEVER_STRANGE and world.rng.random() < 0.06:
        return world.stranger()
    if annotation == "bool":
        return flag(world)
    if name == "handler":
        fit = [each for each in world.handlers if type(each).__mro__[-2].__name__ in annotation]
        return world.rng.choice(fit)
    make = LIKELY.get(name)
    if make is not None:
        return make(world)
    if "Fd" in annotation:
        return world.fd()
    return world.number()


def arguments(
    world: World, callee: str, parameters: Sequence[tuple[str, str, bool, bool]]
) -> tuple[list[Any], dict[str, Any]]:
    """Positional and named arguments: what has a default is given now and then."""
    positional, named = [], {}
    for name, annotation, by_name, optional in parameters:
        if optional and name != "timeout" and world.rng.random() < 0.6:
            if by_name or not positional:
                continue
            break
        if by_name:
            named[name] = argument(world, callee, name, annotation)
        else:
            positional.append(argument(world, callee, name, annotation))
    if named.get("multishot") or named.get("timeout_flags"):
        # A timer that is due again at once cannot be caught by a cancel: it never waits in the kernel's list.
        positional = [0.01 if isinstance(value, float) else value for value in positional]
    return positional, named
