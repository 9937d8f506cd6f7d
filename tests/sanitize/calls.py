"""Random calls of all that is public in `uring` on the running kernel: `python -m tests.sanitize.calls`.

Every call either does what it says or raises one of `REFUSALS`. Built with sanitizers (`make sanitize`),
anything else that it does to memory ends the process with a report. Calls come in episodes, each with a
world of its own that follows from the seed and the number of the episode, so that a failure can be had again.
Where the ring takes several threads, so many make the calls at once; the order of theirs does not follow.
"""

from __future__ import annotations

import argparse
import ctypes
import faulthandler
import fcntl
import gc
import inspect
import os
import random
import resource
import signal
import sys
import tempfile
import threading
import traceback
import warnings
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import uring
from uring import Ring, ops
from uring.session import start_stop as core

from .world import World, arguments

if TYPE_CHECKING:
    from collections.abc import Iterable

REFUSALS = (
    TypeError,
    ValueError,
    LookupError,
    OSError,
    OverflowError,
    BufferError,
    MemoryError,
    RuntimeError,
)
"""Exceptions that a call may raise; besides these only ZeroDivisionError, out of a test's callback."""

EPISODE = 1000
FILE_LIMIT = 1 << 24
EPISODE_SECONDS = 60
THREADS = 3  # on a ring that takes several
TICK = 0.05  # no wait of the kernel's is longer: a signal ends it

RAW = {
    "Op": "its fields are an entry as it stands, addresses included: functions of uring.ops make requests",
    "BufferRing": "made by register_buf_ring",
    "BufferGroup": "made by register_buf_ring",
    "Request": "made by the ring's methods",
    "Chain": "made by Ring.chain",
    "BufferGroups": "made for Options.multi_size_buffer",
    "ZCRXQueue": "made by register_zcrx_ifq",
    "ZCRXBuffer": "made by a queue",
    "MultishotSubscription": "made by subscribe",
    "ListenerOp": "made by a ListenerManager",
    "IndirectSQE": "lent by a pool",
    "ExtSQE": "lent by a pool",
    "CompletionOwner": "a base class",
    **dict.fromkeys(("MultishotStep", "ListenerStep"), "made for handlers"),
    **dict.fromkeys(("CQEView", "DirectCQE", "ExtCQE"), "made by wait; a forged one is among the arguments"),
    "Ring": "made for each episode, with options that the machine can bear",
}
"""Classes that the library makes itself."""

WITHOUT_A_CARD = {
    *("ZCRXBuffer.release", "ZCRXQueue.flush", "ZCRXQueue.locate", "ZCRXQueue.refill"),
    *("ZCRXQueue.when_refilled", "ZCRXReceiver.close"),
    *("ZCRXReceiver.handle_cqe", "ZCRXReceiver.start", "ZCRXReceiver.stop"),
}
"""Methods of what only a network card with zero-copy receive can make."""
MANY = 50_000  # calls, after which nothing else may be uncalled

BY_EPISODE = {"start", "stop", "from_callbacks", "forget", "sync_cancel_forever", "drain", "completions"}
"""The last two wait without a limit, as `Request.wait` does."""


@dataclass
class Callee:
    """Something public that can be called; `owner` is the class of a method."""

    name: str
    function: Any
    owner: type | None
    parameters: list[tuple[str, str, bool, bool]]
    calls: int = 0
    accepted: int = 0
    errors: Counter[str] = field(default_factory=Counter)

    @property
    def label(self) -> str:
        return f"{self.owner.__name__}.{self.name}" if self.owner else self.name


def surface() -> list[Callee]:
    """Functions, constructors and methods: all that is public and not `RAW`."""
    found = []
    for name in sorted(uring.__all__):
        thing = getattr(uring, name)
        if inspect.isclass(thing):
            if name not in RAW and not issubclass(thing, BaseException) and not hasattr(thing, "__members__"):
                found.append(Callee(name, thing, None, parameters(thing)))
            if name.endswith("Handler"):
                continue  # what the library calls
            for method, function in inspect.getmembers(thing, inspect.isroutine):
                own = any(
                    method in vars(base) for base in thing.__mro__ if base.__module__.startswith("uring")
                )
                if (
                    method[0] != "_"
                    and own
                    and method not in BY_EPISODE
                    and (thing is not uring.Request or method != "wait")
                    and not issubclass(thing, BaseException)
                ):
                    found.append(Callee(method, function, thing, parameters(function)))
        elif callable(thing):
            found.append(Callee(name, thing, None, parameters(thing)))
    for name in sorted(ops.__all__):
        if name[0].islower():
            found.append(Callee(name, getattr(ops, name), None, parameters(getattr(ops, name))))
    return found


def parameters(function: Any) -> list[tuple[str, str, bool, bool]]:
    """Name, annotation, whether it is given by name, whether it has a default."""
    found = []
    for name, each in inspect.signature(function).parameters.items():
        if name != "self" and each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL):
            optional = each.default is not each.empty
            found.append((name, str(each.annotation), each.kind is each.KEYWORD_ONLY, optional))
    return found


class Caller:
    """Makes the calls, and counts them."""

    def __init__(self, seed: int, journal: int | None) -> None:
        self.seed = seed
        self.journal = journal
        self.surface = surface()
        self.ring_methods = [each for each in self.surface if each.owner is Ring]
        self.rest = [each for each in self.surface if each.owner is not Ring]
        self.wrong: Counter[str] = Counter()
        self.calls = self.accepted = self.completions = self.properties = self.threaded = 0

    def episode(self, number: int, calls: int) -> None:
        rng = random.Random(f"{self.seed} {number}")
        world = World(rng, number)
        called: set[str] = set()
        if world.options.get("multi_issuers"):
            self.in_threads(world, number, calls, called)
        else:
            self.turns(world, rng, number, range(calls), called)
        # Few episodes have an object of some classes: there each of its methods is called.
        for turn, callee in enumerate(self.rest, calls):
            if callee.owner is not None and callee.label not in called:
                self.note(number, turn, callee)
                self.call(world, callee)
        self.note(number, calls, None)
        leaked = len(core._leaked)
        world.close()
        for kernel, requests, *_ in core._leaked[leaked:]:
            left = f"{kernel.inflight} operations, {len(requests)} of them with a handle"
            where = f"seed {self.seed}, episode {number}"
            print(f"{where}: did not end: {left}; {world.options}", file=sys.stderr)
            # Its mapped queues would keep it at work, on descriptors of the next world.
            kernel.close()

    def in_threads(self, world: World, number: int, calls: int, called: set[str]) -> None:
        """The calls of an episode, by several threads at once."""
        failed: list[BaseException] = []

        def work(which: int) -> None:
            try:
                rng = random.Random(f"{self.seed} {number} {which}")
                self.turns(world, rng, number, range(which, calls, THREADS), called)
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=work, args=(which,)) for which in range(THREADS)]
        for thread in threads:
            thread.start()
        while alive := [thread for thread in threads if thread.is_alive()]:
            alive[0].join(TICK)
            for thread in alive:  # a signal of the process goes to the main thread alone
                # Not pthread_kill, which may not be called for a thread that has ended.
                ctypes.CDLL(None).tgkill(os.getpid(), thread.native_id, signal.SIGALRM)
        self.threaded += 1
        if failed:
            raise failed[0]

    def turns(
        self, world: World, rng: random.Random, number: int, turns: Iterable[int], called: set[str]
    ) -> None:
        for turn in turns:
            draw = rng.random()
            if draw < 0.12:
                self.take(world, rng)
            elif draw < 0.15:
                self.look(world, rng)
            callee = rng.choice(self.ring_methods if rng.random() < 0.6 else self.rest)
            called.add(callee.label)
            self.note(number, turn, callee)
            self.call(world, callee)

    def call(self, world: World, callee: Callee) -> None:
        function = callee.function
        if callee.owner is not None:
            holder = world.ring if callee.owner is Ring else world.some(callee.owner)
            if holder is None:
                return
            function = getattr(holder, callee.name)
        positional, named = arguments(world, callee.name, callee.parameters)
        self.calls += 1
        callee.calls += 1
        try:
            result = function(*positional, **named)
            if inspect.isgenerator(result):
                result = list(result)
        except REFUSALS as refusal:
            if isinstance(refusal, (RecursionError, NotImplementedError)):
                self.complain(callee, positional, named, refusal)
            callee.errors[type(refusal).__name__] += 1
            if os.environ.get("ACCIDENTS"):
                self.look_at(callee, refusal)
        except ZeroDivisionError:
            callee.errors["ZeroDivisionError"] += 1
        except Exception as wrong:
            self.complain(callee, positional, named, wrong)
        else:
            self.accepted += 1
            callee.accepted += 1
            world.keep(result)
            if isinstance(result, uring.Op) and world.rng.random() < 0.5:
                self.submit(world, result)

    def complain(self, callee: Callee, positional: Any, named: Any, wrong: Exception) -> None:
        """An exception that no call may raise: reported once for each place."""
        last = traceback.extract_tb(wrong.__traceback__)[-1]
        place = f"{last.filename}:{last.lineno}"
        if place not in self.wrong:
            given = ", ".join(
                [*map(repr, positional), *(f"{name}={value!r}" for name, value in named.items())]
            )
            print(f"{place}: {type(wrong).__name__}: {wrong}\n    {callee.label}({given})", file=sys.stderr)
        self.wrong[place] += 1

    def submit(self, world: World, op: uring.Op) -> None:
        self.calls += 1
        try:
            world.keep(world.ring.submit(op, world.context()))
            self.accepted += 1
        except REFUSALS:
            pass

    def take(self, world: World, rng: random.Random) -> None:
        """Completions, and what becomes of them."""
        wait = rng.choice(
            (world.ring.wait, world.ring.wait, world.ring.wait_direct, world.ring.wait_extended)
        )
        self.calls += 1
        try:
            found = wait(64, rng.choice((0.0, 0.0, 0.001)))
        except REFUSALS:
            return
        self.accepted += 1
        self.completions += len(found)
        world.keep(found)
        for cqe in found:
            self.calls += 2
            for take in (uring.dispatch, world.ring.result):
                try:
                    world.keep(take(cqe))
                    self.accepted += 1
                except REFUSALS:
                    pass

    def look(self, world: World, rng: random.Random) -> None:
        """Every property of some object."""
        kept = rng.choice([kept for kept in list(world.things.values()) if kept])
        thing = rng.choice(kept)
        for name, _ in inspect.getmembers(type(thing), lambda member: isinstance(member, property)):
            if name[0] != "_":
                self.properties += 1
                try:
                    world.keep(getattr(thing, name))
                except REFUSALS:
                    pass
                except Exception as wrong:
                    self.complain(Callee(name, None, type(thing), []), [thing], {}, wrong)
        repr(thing)

    def note(self, number: int, turn: int, callee: Callee | None) -> None:
        """Writes where the process is, to be read if it crashes."""
        if self.journal is not None:
            label = callee.label if callee else "the end"
            os.pwrite(self.journal, f"{number} {turn} {label}".ljust(80).encode(), 0)

    def look_at(self, callee: Callee, refusal: BaseException) -> None:
        """Reports a refusal that no `raise` of the library made."""
        last = traceback.extract_tb(refusal.__traceback__)[-1]
        if "/uring/" in last.filename and not (last.line or "").startswith("raise"):
            place = f"{last.filename.rpartition('/uring/')[2]}:{last.lineno}"
            key = f"{place} {type(refusal).__name__}: {str(refusal)[:60]}"
            if key not in accidents:
                print(f"{callee.label}: {key}", file=sys.stderr)
            accidents[key] += 1


accidents: Counter[str] = Counter()


def sweep(before: set[int]) -> None:
    """Closes what an episode opened. Whatever owned it must be gone."""
    gc.collect()
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in before:
            try:
                os.close(int(name))
            except OSError:
                pass  # the directory that was listed


def guard() -> None:
    """Limits for a process that does what it is told by chance."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_LIMIT, FILE_LIMIT))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, lambda number, frame: None)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)
    warnings.simplefilter("ignore")
    faulthandler.enable()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sanitize.calls", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--calls", type=int, default=3000, help="at least so many API calls")
    parser.add_argument("--episode", type=int, help="only this one")
    parser.add_argument("--journal", help="a file that says which call is under way")
    options = parser.parse_args()
    journal = None
    if options.journal:
        fd = os.open(options.journal, os.O_RDWR | os.O_CREAT, 0o600)
        journal = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 900)
        os.close(fd)
    guard()
    caller = Caller(options.seed, journal)
    number = options.episode or 0
    home = os.open("/", os.O_RDONLY)
    while caller.calls < options.calls or options.episode is not None:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            before = {int(name) for name in os.listdir("/proc/self/fd")}
            os.chdir(folder)
            faulthandler.dump_traceback_later(EPISODE_SECONDS, exit=True)
            signal.setitimer(signal.ITIMER_REAL, TICK, TICK)
            try:
                caller.episode(number, EPISODE)
            except BaseException:
                print(f"seed {options.seed}, episode {number}:", file=sys.stderr)
                raise
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
                faulthandler.cancel_dump_traceback_later()
                os.fchdir(home)
            sweep(before)
        number += 1
        if options.episode is not None:
            break
    uncalled = report(caller, number) - WITHOUT_A_CARD
    if options.calls >= MANY and uncalled:
        print("never called:", *sorted(uncalled), file=sys.stderr)
        return 1
    return 1 if caller.wrong else 0


def report(caller: Caller, episodes: int) -> set[str]:
    """Prints what was done; returns what was not."""
    never = {each.label for each in caller.surface if not each.calls}
    refused = [each.label for each in caller.surface if each.calls and not each.accepted]
    print(
        f"calls={caller.calls} accepted={caller.accepted} completions={caller.completions} "
        f"properties={caller.properties} callables={len(caller.surface)} episodes={episodes} "
        f"in_threads={caller.threaded}"
    )
    print("never called:", *sorted(never) or ["-"])
    print("never accepted:", *refused or ["-"], flush=True)
    return never


if __name__ == "__main__":
    sys.exit(main())
