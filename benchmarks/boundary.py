"""What `uring` costs by itself, without a scheduler: `python -m benchmarks.boundary WORKLOAD CONTENDER`.

`boundary-nop` submits and takes 64 requests that do nothing: what is left is the way to the kernel and back.
`boundary-recv` receives 64 bytes that have come, one by one. `boundary-read` reads a file of the page cache
in 64 pieces of 4 KiB. Each sample is a process of its own; its CPU time for each request is the figure. Every
contender looks at each result, and what was received or read is compared with what was sent or is in the
file.

Names that end in `-handles` are those of the form without contexts, where a call returns a `Request`. Each is
compared with its twin, which gives contexts and waits by `wait_direct`, and on a second line with PyPI's
`liburing`; the twin is compared with that, or with a plain system call.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from dataclasses import dataclass, field
from importlib.util import find_spec
from statistics import median
from typing import TYPE_CHECKING, Any

from .figures import Comparison, Contender
from .processes import CACHE, BenchmarkError, Process, cores

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Turn = Callable[[], None]
    Setup = Callable[[], Iterator[Turn]]

BATCH = 64
PIECE = 4096
TURNS = 500
RUNS = 5  # in each process; the median is its sample


def complain(result: object) -> None:
    raise BenchmarkError(f"a request came to {result}")


# Nothing, 64 times --------------------------------------------------------------------------------------


def nop_liburing() -> Iterator[Turn]:
    """PyPI's `liburing`, an entry after the other."""
    import liburing as lib

    ring, cqe = lib.Ring(), lib.Cqe()
    lib.io_uring_queue_init(BATCH, ring, lib.IORING_SETUP_SINGLE_ISSUER | lib.IORING_SETUP_DEFER_TASKRUN)

    def turn() -> None:
        for i in range(BATCH):
            sqe = lib.io_uring_get_sqe(ring)
            lib.io_uring_prep_nop(sqe)
            sqe.user_data = i
        take_liburing(lib, ring, cqe, 0)

    yield turn
    lib.io_uring_queue_exit(ring)


def take_liburing(lib: Any, ring: Any, cqe: Any, wanted: int) -> None:
    lib.io_uring_submit_and_wait(ring, BATCH)
    completions = lib.io_uring_cqe_iter_init(ring)
    taken = seen = 0
    while lib.io_uring_cqe_iter_next(completions, cqe):
        completion = cqe[0]
        seen += completion.user_data
        taken += 1
        if completion.res != wanted:
            complain(completion.res)
    lib.io_uring_cq_advance(ring, taken)
    if taken != BATCH or seen != BATCH * (BATCH - 1) // 2:
        complain(taken)


def nop_each(wait: str) -> Setup:
    """A call for each request."""

    def setup() -> Iterator[Turn]:
        from uring import Ring

        with Ring(entries=BATCH) as ring:
            take = taker(getattr(ring, wait), 0)

            def turn() -> None:
                for i in range(BATCH):
                    ring.nop(i)
                take()

            yield turn

    return setup


def nop_many(wait: str) -> Setup:
    """A call for all of them."""

    def setup() -> Iterator[Turn]:
        from uring import Ring, ops

        with Ring(entries=BATCH) as ring:
            take = taker(getattr(ring, wait), 0)

            def turn() -> None:
                ring.submit_many([(ops.nop(), i) for i in range(BATCH)])
                take()

            yield turn

    return setup


def nop_batch(wait: str) -> Setup:
    """A batch that was made before, submitted again."""

    def setup() -> Iterator[Turn]:
        from uring import Ring, ops

        with Ring(entries=BATCH) as ring:
            batch, take = ring.batch((ops.nop(), i) for i in range(BATCH)), taker(getattr(ring, wait), 0)

            def turn() -> None:
                ring.submit_batch(batch)
                take()

            yield turn

    return setup


def nop_each_handles() -> Iterator[Turn]:
    """A call for each request, which returns its request object."""
    from uring import Ring

    with Ring(entries=BATCH) as ring:
        yield lambda: take_requests(ring, [ring.nop() for _ in range(BATCH)], 0)


def nop_many_handles() -> Iterator[Turn]:
    """A request object for each, all of them queued by one call."""
    from uring import Ring, ops

    with Ring(entries=BATCH) as ring:
        yield lambda: take_requests(ring, ring.submit_all([ops.nop() for _ in range(BATCH)]), 0)


def take_requests(ring: Any, requests: list[Any], wanted: int) -> None:
    left = BATCH
    while left:
        left -= len(ring.wait(BATCH, None))
    for request in requests:
        result = request.result()
        if result != wanted:
            complain(result)


def nop_as_one() -> Iterator[Turn]:
    """A batch with one completion for all of it."""
    from uring import Ring, ops

    with Ring(entries=BATCH) as ring:
        batch = ring.batch((ops.nop(), i) for i in range(BATCH))
        yield lambda: take_as_one(ring, batch, 0)


def take_as_one(ring: Any, batch: Any, wanted: int) -> None:
    ring.submit_as_one(batch, 1)
    completions = []
    while not completions:
        completions = ring.wait_direct(BATCH, None)
    for res in ring.result(completions[0]):
        if res != wanted:
            complain(res)


def nop_as_one_handle() -> Iterator[Turn]:
    """The same without a context: one request object for all of it."""
    from uring import Ring, ops

    with Ring(entries=BATCH) as ring:
        batch = ring.batch(ops.nop() for _ in range(BATCH))
        yield lambda: take_one_handle(ring, batch, 0)


def take_one_handle(ring: Any, batch: Any, wanted: int) -> None:
    for res in ring.submit_as_one(batch).wait():
        if res != wanted:
            complain(res)


def taker(wait: Callable[[int, float | None], list[Any]], wanted: int) -> Turn:
    def take() -> None:
        left, seen = BATCH, 0
        while left:
            for cqe in wait(BATCH, None):
                seen += cqe.user_data
                left -= 1
                if cqe.res != wanted:
                    complain(cqe)
        if seen != BATCH * (BATCH - 1) // 2:
            complain(seen)

    return take


# 64 bytes of a socket -----------------------------------------------------------------------------------


class Bytes:
    """A socket and its peer, which sends a byte for each of the buffers."""

    def __enter__(self) -> Bytes:
        self.near, self.far = socket.socketpair()
        self.fd = self.near.fileno()
        self.contents = bytes(range(1, BATCH + 1))
        self.buffers = [bytearray(1) for _ in range(BATCH)]
        return self

    def send(self) -> None:
        self.far.send(self.contents)

    def __exit__(self, *exc: object) -> None:
        self.near.close()
        self.far.close()
        if not any(exc) and b"".join(self.buffers) != self.contents:
            raise BenchmarkError("what was received is not what was sent")


def recv_liburing() -> Iterator[Turn]:
    import liburing as lib

    with Bytes() as bytes_:
        fd, buffers = bytes_.fd, bytes_.buffers
        ring, cqe = lib.Ring(), lib.Cqe()
        lib.io_uring_queue_init(BATCH, ring, lib.IORING_SETUP_SINGLE_ISSUER | lib.IORING_SETUP_DEFER_TASKRUN)

        def turn() -> None:
            bytes_.send()
            for i in range(BATCH):
                sqe = lib.io_uring_get_sqe(ring)
                lib.io_uring_prep_recv(sqe, fd, buffers[i])
                sqe.user_data = i
            take_liburing(lib, ring, cqe, 1)

        yield turn
        lib.io_uring_queue_exit(ring)


def recv_each() -> Iterator[Turn]:
    from uring import Ring

    with Bytes() as bytes_, Ring(entries=BATCH) as ring:
        fd, buffers, take = bytes_.fd, bytes_.buffers, taker(ring.wait_direct, 1)

        def turn() -> None:
            bytes_.send()
            for i in range(BATCH):
                ring.recv(i, fd, buffers[i])
            take()

        yield turn


def recv_each_handles() -> Iterator[Turn]:
    from uring import Ring

    with Bytes() as bytes_, Ring(entries=BATCH) as ring:
        fd, buffers = bytes_.fd, bytes_.buffers

        def turn() -> None:
            bytes_.send()
            take_requests(ring, [ring.recv(fd, each) for each in buffers], 1)

        yield turn


def recv_many_handles() -> Iterator[Turn]:
    """Operations made anew each time, queued by one call."""
    from uring import Ring, ops

    with Bytes() as bytes_, Ring(entries=BATCH) as ring:
        fd, buffers = bytes_.fd, bytes_.buffers

        def turn() -> None:
            bytes_.send()
            take_requests(ring, ring.submit_all([ops.recv(fd, each) for each in buffers]), 1)

        yield turn


def recv_batch() -> Iterator[Turn]:
    from uring import Ring, ops

    with Bytes() as bytes_, Ring(entries=BATCH) as ring:
        batch = ring.batch((ops.recv(bytes_.fd, each), i) for i, each in enumerate(bytes_.buffers))
        take = taker(ring.wait_direct, 1)

        def turn() -> None:
            bytes_.send()
            ring.submit_batch(batch)
            take()

        yield turn


def recv_as_one_handle() -> Iterator[Turn]:
    from uring import Ring, ops

    with Bytes() as bytes_, Ring(entries=BATCH) as ring:
        batch = ring.batch(ops.recv(bytes_.fd, each) for each in bytes_.buffers)

        def turn() -> None:
            bytes_.send()
            take_one_handle(ring, batch, 1)

        yield turn


# 64 pieces of a file ------------------------------------------------------------------------------------


class Pieces:
    """A file in the page cache, and a buffer for each piece of it."""

    def __enter__(self) -> Pieces:
        CACHE.mkdir(parents=True, exist_ok=True)
        path = CACHE / f"pieces.{os.getpid()}"
        self.contents = os.urandom(BATCH * PIECE)
        path.write_bytes(self.contents)
        self.fd = os.open(path, os.O_RDONLY)
        path.unlink()
        self.buffers = [bytearray(PIECE) for _ in range(BATCH)]
        return self

    def __exit__(self, *exc: object) -> None:
        os.close(self.fd)
        if not any(exc) and b"".join(self.buffers) != self.contents:
            raise BenchmarkError("what was read is not what the file holds")


def read_pread() -> Iterator[Turn]:
    with Pieces() as pieces:
        fd = pieces.fd

        def turn() -> None:
            for i in range(BATCH):
                data = os.pread(fd, PIECE, i * PIECE)
                if len(data) != PIECE:
                    complain(len(data))

        yield turn
        pieces.buffers = [bytearray(os.pread(fd, PIECE, i * PIECE)) for i in range(BATCH)]


def read_preadv() -> Iterator[Turn]:
    """Into memory that is there, as the ring's contenders have it."""
    with Pieces() as pieces:
        fd, rooms = pieces.fd, [[each] for each in pieces.buffers]

        def turn() -> None:
            for i in range(BATCH):
                n = os.preadv(fd, rooms[i], i * PIECE)
                if n != PIECE:
                    complain(n)

        yield turn


def read_liburing() -> Iterator[Turn]:
    import liburing as lib

    with Pieces() as pieces:
        fd, buffers = pieces.fd, pieces.buffers
        ring, cqe = lib.Ring(), lib.Cqe()
        lib.io_uring_queue_init(BATCH, ring, lib.IORING_SETUP_SINGLE_ISSUER | lib.IORING_SETUP_DEFER_TASKRUN)

        def turn() -> None:
            for i in range(BATCH):
                sqe = lib.io_uring_get_sqe(ring)
                lib.io_uring_prep_read(sqe, fd, buffers[i], i * PIECE)
                sqe.user_data = i
            take_liburing(lib, ring, cqe, PIECE)

        yield turn
        lib.io_uring_queue_exit(ring)


def read_each() -> Iterator[Turn]:
    """A method call for each read: checks, pin, entry, all new each time."""
    from uring import Ring

    with Pieces() as pieces, Ring(entries=BATCH) as ring:
        fd, buffers, take = pieces.fd, pieces.buffers, taker(ring.wait_direct, PIECE)

        def turn() -> None:
            for i in range(BATCH):
                ring.read(i, fd, buffers[i], offset=i * PIECE)
            take()

        yield turn


def read_each_handles() -> Iterator[Turn]:
    """The same without contexts: a request object for each read."""
    from uring import Ring

    with Pieces() as pieces, Ring(entries=BATCH) as ring:
        fd, buffers = pieces.fd, pieces.buffers

        def turn() -> None:
            requests = [ring.read(fd, each, offset=i * PIECE) for i, each in enumerate(buffers)]
            take_requests(ring, requests, PIECE)

        yield turn


def read_many_handles() -> Iterator[Turn]:
    """Operations made anew each time, queued by one call."""
    from uring import Ring, ops

    with Pieces() as pieces, Ring(entries=BATCH) as ring:
        fd, buffers = pieces.fd, pieces.buffers

        def turn() -> None:
            made = [ops.read(fd, each, offset=i * PIECE) for i, each in enumerate(buffers)]
            take_requests(ring, ring.submit_all(made), PIECE)

        yield turn


def read_batch() -> Iterator[Turn]:
    from uring import Ring, ops

    with Pieces() as pieces, Ring(entries=BATCH) as ring:
        batch = ring.batch(
            (ops.read(pieces.fd, each, offset=i * PIECE), i) for i, each in enumerate(pieces.buffers)
        )
        take = taker(ring.wait_direct, PIECE)

        def turn() -> None:
            ring.submit_batch(batch)
            take()

        yield turn


def read_batch_fixed() -> Iterator[Turn]:
    """The same with file and buffers registered."""
    from uring import Ring, ops

    with Pieces() as pieces, Ring(entries=BATCH) as ring:
        ring.register_files([pieces.fd])
        ring.register_buffers(pieces.buffers)
        batch = ring.batch(
            (ops.read_fixed(0, each, i, offset=i * PIECE, fixed_file=True), i)
            for i, each in enumerate(pieces.buffers)
        )
        take = taker(ring.wait_direct, PIECE)

        def turn() -> None:
            ring.submit_batch(batch)
            take()

        yield turn


def read_as_one() -> Iterator[Turn]:
    from uring import Ring, ops

    with Pieces() as pieces, Ring(entries=BATCH) as ring:
        batch = ring.batch(
            (ops.read(pieces.fd, each, offset=i * PIECE), i) for i, each in enumerate(pieces.buffers)
        )
        yield lambda: take_as_one(ring, batch, PIECE)


def read_as_one_handle() -> Iterator[Turn]:
    from uring import Ring, ops

    with Pieces() as pieces, Ring(entries=BATCH) as ring:
        batch = ring.batch(
            ops.read(pieces.fd, each, offset=i * PIECE) for i, each in enumerate(pieces.buffers)
        )
        yield lambda: take_one_handle(ring, batch, PIECE)


# The comparison -----------------------------------------------------------------------------------------


def has_liburing() -> bool:
    return find_spec("liburing") is not None


@dataclass(frozen=True)
class Boundary:
    """A workload. `against` says what contenders are compared with where that is not the first one."""

    name: str
    description: str
    contenders: Mapping[str, Setup]
    aims: Mapping[str, float] = field(default_factory=dict)
    against: Mapping[str, str] = field(default_factory=dict)

    def baseline(self, name: str) -> str | None:
        first = next(iter(self.contenders))
        return None if name == first else self.against.get(name, first)

    def chosen(self, wanted: Callable[[str], bool]) -> list[str]:
        """The contenders that are wanted, and those that they are compared with; `liburing` where it is."""
        names = {name for name in self.contenders if wanted(name)}
        for _ in self.contenders:
            names |= {other for other in map(self.baseline, names) if other is not None}
        if not has_liburing():
            names.discard("liburing")
        return [name for name in self.contenders if name in names]


EACH = {"uring-each-handles": "uring-each"}
MANY = {"uring-many-handles": "uring-many"}
HANDLES, ONE_HANDLE = 1.25, 1.0  # aims
LIBURING = "liburing"

BOUNDARIES = [
    Boundary(
        "boundary-nop",
        "64 nops submitted and taken",
        {
            "liburing": nop_liburing,
            "uring-batch": nop_batch("wait_direct"),
            "uring-batch-wait": nop_batch("wait"),
            "uring-as-one": nop_as_one,
            "uring-as-one-handle": nop_as_one_handle,
            "uring-many": nop_many("wait_direct"),
            "uring-many-handles": nop_many_handles,
            "uring-each": nop_each("wait_direct"),
            "uring-each-wait": nop_each("wait"),
            "uring-each-handles": nop_each_handles,
        },
        {
            **dict.fromkeys(("uring-batch", "uring-batch-wait", "uring-as-one-handle"), ONE_HANDLE),
            **dict.fromkeys(EACH | MANY, HANDLES),
        },
        EACH | MANY,
    ),
    Boundary(
        "boundary-recv",
        "64 receives of 1 byte that has come",
        {
            "liburing": recv_liburing,
            "uring-batch": recv_batch,
            "uring-as-one-handle": recv_as_one_handle,
            "uring-many-handles": recv_many_handles,
            "uring-each": recv_each,
            "uring-each-handles": recv_each_handles,
        },
        {"uring-as-one-handle": ONE_HANDLE, "uring-each-handles": HANDLES},
        EACH,
    ),
    Boundary(
        "boundary-read",
        "64 reads of 4 KiB from the page cache",
        {
            "pread": read_pread,
            "preadv": read_preadv,
            "liburing": read_liburing,
            "uring-batch": read_batch,
            "uring-batch-fixed": read_batch_fixed,
            "uring-as-one": read_as_one,
            "uring-as-one-handle": read_as_one_handle,
            "uring-many-handles": read_many_handles,
            "uring-each": read_each,
            "uring-each-handles": read_each_handles,
        },
        {
            **dict.fromkeys(("uring-batch", "uring-batch-fixed", "uring-as-one"), 1.2),
            "uring-as-one-handle": ONE_HANDLE,
            "uring-each-handles": HANDLES,
        },
        {**EACH, "uring-as-one-handle": "liburing"},
    ),
]


def measured(setup: Setup) -> float:
    """CPU nanoseconds a request."""
    steps = setup()
    turn = next(steps)
    samples = []
    for _ in range(RUNS):
        before = time.process_time_ns()
        for _ in range(TURNS):
            turn()
        samples.append((time.process_time_ns() - before) / (TURNS * BATCH))
    for _ in steps:
        pass
    return median(samples)


def sample(workload: Boundary, contender: str) -> float:
    command = [sys.executable, "-m", "benchmarks.boundary", workload.name, contender]
    with Process(contender, command, cores()[0]) as child:
        return float(child.line())


def compare(workload: Boundary, rounds: int, wanted: Callable[[str], bool]) -> Iterator[int | Comparison]:
    """Yield after each round its number, and at the end the comparison."""
    names = workload.chosen(wanted)
    samples: dict[str, list[float]] = {name: [] for name in names}
    for done in range(rounds):
        first = done % len(names)
        for name in names[first:] + names[:first]:
            samples[name].append(sample(workload, name))
        yield done + 1
    contenders = [
        Contender(name, {"cpu": samples[name]}, workload.baseline(name), workload.aims.get(name))
        for name in names
    ]
    contenders += [
        Contender(f"{name}, again", {"cpu": samples[name]}, LIBURING, ONE_HANDLE)
        for name in names
        if name.endswith("-handles") and LIBURING in names
    ]
    yield Comparison(workload.name, workload.description, {"cpu": "ns/request"}, contenders)


def main() -> None:
    workload = next(each for each in BOUNDARIES if each.name == sys.argv[1])
    print(measured(workload.contenders[sys.argv[2]]), flush=True)


if __name__ == "__main__":
    main()
