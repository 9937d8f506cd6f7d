"""One program's world: its objects, its tasks, and the steps that act on them.

Invariant: the result of a step does not depend on time or on the order in which Trio runs tasks. Each call
that may wait has a task of its own; after each step the world settles: every task has ended or is blocked.
The calls that ended meanwhile are written down in the order of their steps. The tasks of one batch run in a
fixed order, which belongs to the program.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf
from time import process_time
from typing import TYPE_CHECKING, Any

import trio
from trio.testing import wait_all_tasks_blocked

from .names import LARGE, Names

if TYPE_CHECKING:
    from .programs import Program, Step

__all__ = ["STEPS", "Missing", "World", "call", "finishing", "given"]

SPINNING = 0.1
"""Seconds of the processor after which a world that does not settle goes on: a stock wait at an error queue
spins."""
LONG = 5.0
SPINS = "a task spins"
INPUT = frozenset(
    (
        "accept", "accept_stream", "readable", "receive_some", "recv", "recv_into", "recvfrom",
        "recvfrom_into", "recvmsg", "recvmsg_into",
    )
)  # fmt: skip
"""The calls that take input."""


class Missing(Exception):
    """A step names what is not there: it was left out, or it failed."""


@dataclass
class Kind:
    """How a step is run: at once, in the driver, or in a task; ``finishes``: its end is waited for."""

    function: Callable[..., Any]
    task: bool = False
    finishes: bool = False


STEPS: dict[str, Kind] = {}


def given(function: Callable[..., Any]) -> Callable[..., Any]:
    """A step that does not wait, or that the driver itself waits for."""
    STEPS[function.__name__.rstrip("_")] = Kind(function)
    return function


def call(function: Callable[..., Any]) -> Callable[..., Any]:
    """A step that may wait, in a task of its own."""
    STEPS[function.__name__.rstrip("_")] = Kind(function, task=True)
    return function


def finishing(function: Callable[..., Any]) -> Callable[..., Any]:
    """A step in a task of its own whose end does not depend on other steps."""
    STEPS[function.__name__.rstrip("_")] = Kind(function, task=True, finishes=True)
    return function


@dataclass
class Task:
    step: Step
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    done: trio.Event = field(default_factory=trio.Event)
    answer: Any = None
    error: BaseException | None = None
    told: bool = False


class World:
    """What a program acts on.

    Args:
        program: the program.
        folder: an empty folder, the working directory while the program runs.
        cushion: seconds without an event after which the world counts as settled; 0 is enough, except on a
            busy machine, whose kernel delivers late what is sent over loopback.
    """

    def __init__(self, program: Program, folder: str, cushion: float) -> None:
        self.program = program
        self.folder = folder
        self.cushion = cushion
        self.names = Names(folder)
        self.objects: dict[str, Any] = {}
        self.tasks: dict[int, Task] = {}
        self.lines: list[str] = []
        self.number = 0
        self.paths = 0
        self.spins = False
        """Whether a task spins: on stock Trio one does where poll(2) keeps reporting what is no help. The
        results of other tasks on the descriptor depend on the moment then, so the program ends there."""
        self.urgent = False
        """Whether a TCP socket was sent urgent data. A receive in the kernel skips it before the run asks for
        it the first time; stock Trio leaves it there, and a close with it ends in a reset."""
        self.children: dict[str, Any] = {}
        self.unsure_if_forgotten: set[str] = set()
        """Files whose contents are not compared if they are open at the end; see `files.file`."""

    # ---- objects -----------------------------------------------------------------------------------------

    def get(self, name: str) -> Any:
        try:
            return self.objects[name]
        except KeyError:
            raise Missing from None

    def socket(self, name: str) -> Any:
        """The socket of the object, as Trio or as the standard library has it."""
        found = self.get(name)
        if hasattr(found, "socket"):
            found = found.socket
        if isinstance(found, int) or not hasattr(found, "getsockname"):
            raise Missing
        return found

    def inner(self, name: str) -> socket.socket:
        found = self.socket(name)
        return getattr(found, "_sock", found)

    def fileno(self, name: str) -> int:
        found = self.get(name)
        if isinstance(found, int):
            return found
        if hasattr(found, "socket"):
            found = found.socket
        return int(found.fileno())

    def valid(self, name: str) -> int:
        """The descriptor, which is a number: Trio's own loop breaks when it waits for a negative one."""
        fd = self.fileno(name)
        if fd < 0:
            raise Missing
        return fd

    def unblocking(self, name: str) -> int:
        """The descriptor, of which reads and writes do not wait: its number may be another file's by now."""
        fd = self.fileno(name)
        if os.get_blocking(fd):
            raise Missing
        return fd

    def stream(self, name: str) -> Any:
        """A stream whose calls do not block the process: the number of a pipe that was closed behind its back
        may be that of a file by now which does."""
        found = self.get(name)
        if isinstance(found, trio.lowlevel.FdStream):
            with suppress(OSError):
                self.unblocking(name)
        return found

    def own_task(self) -> Task:
        """That of the call that asks."""
        return self.tasks[int(trio.lowlevel.current_task().name.partition(" ")[0])]

    def check_idle(self, name: str, *, raw: bool = True, but: Task | None = None) -> None:
        """Refuses a step that takes the descriptor away from a call that waits.

        Stock Trio leaves such a task to wait for a number that is closed, or another file's. On the ring
        the operation of a socket or stream holds the file: it ends with `trio.ClosedResourceError`, or goes
        on until it is cancelled. ``raw``: refused for `trio.lowlevel.wait_readable` and `wait_writable` too,
        which end when a socket is detached.
        """
        fd = self.fileno(name)
        for task in self.tasks.values():
            if (
                task is not but
                and not task.done.is_set()
                and (raw or task.step.do not in ("readable", "writable"))
            ):
                try:
                    concerned = self.fileno(task.step.args[0]) == fd
                except (Missing, OSError, ValueError):
                    continue
                if concerned:
                    raise Missing

    def data(self, size: int) -> bytes:
        """``size`` bytes that name the step that sends them."""
        tag = (self.number + 1) % 256
        if size >= LARGE:
            self.names.large.add(tag)
        return bytes([tag]) * size

    def path(self) -> str:
        self.paths += 1
        return f"s{self.paths}"

    # ---- playing -----------------------------------------------------------------------------------------

    async def settle(self) -> None:
        began = inf
        while True:
            with trio.move_on_after(SPINNING + 2 * self.cushion) as scope:
                await wait_all_tasks_blocked(self.cushion)
            if not scope.cancelled_caught:
                return
            began = min(began, process_time())
            if process_time() - began > SPINNING:
                self.spins = True
                return

    def say(self, line: str) -> None:
        self.lines.append(line)

    def tell(self) -> None:
        """Writes down what has ended since the last time."""
        for name, found in self.objects.items():
            if hasattr(found, "socket"):
                found = found.socket
            if hasattr(found, "getsockname"):
                self.names.learn(name, found)
        for number, task in sorted(self.tasks.items()):
            if task.done.is_set() and not task.told:
                task.told = True
                text = self.names.value(task.answer) if task.error is None else self.names.error(task.error)
                if isinstance(task.error, trio.Cancelled):
                    text = "cancelled"
                self.say(f"  {number} {task.step.do} ended: {text}")

    async def run(self, number: int, task: Task, function: Callable[..., Awaitable[Any]]) -> None:
        try:
            with task.scope:
                try:
                    task.answer = await function(self, *task.step.args)
                except BaseException as error:
                    task.error = error
                    if isinstance(error, trio.Cancelled):
                        raise
                    if not isinstance(error, Exception):
                        raise
        finally:
            task.done.set()

    def start(self, nursery: trio.Nursery, number: int, step: Step, kind: Kind) -> Task:
        task = self.tasks[number] = Task(step)
        match step.scope:
            case "cancelled":
                task.scope.cancel()
            case "past":
                task.scope.deadline = trio.current_time() - 1
            case "soon":
                task.scope.deadline = trio.current_time() + 0.005 + self.cushion * 3
        nursery.start_soon(self.run, number, task, kind.function, name=f"{number} {step.do}")
        return task

    async def play(self) -> None:
        """Runs the program; its transcript is in ``lines``."""
        with trio.CancelScope() as everything:
            async with trio.open_nursery() as nursery:
                for number, step in enumerate(self.program.steps):
                    self.number = number
                    if self.spins:
                        self.say(SPINS)
                        break
                    await self.play_step(nursery, number, step)
                everything_left = [task for task in self.tasks.values() if not task.done.is_set()]
                await self.settle()
                self.tell()
                self.say("the end")
                for task in everything_left:
                    task.scope.cancel()
                with trio.move_on_after(LONG):
                    for task in everything_left:
                        await task.done.wait()
                self.tell()
                for number, task in self.tasks.items():
                    if not task.done.is_set():
                        self.say(f"  {number} {task.step.do} does not end when it is cancelled")
                nursery.cancel_scope.cancel()
        assert not everything.cancelled_caught
        await self.clean_up()

    async def play_step(self, nursery: trio.Nursery, number: int, step: Step) -> None:
        kind = STEPS[step.do]
        self.say(f"{number} {step}")
        if kind.task:
            task = self.start(nursery, number, step, kind)
            if kind.finishes or step.scope == "soon":
                with trio.move_on_after(LONG):
                    await task.done.wait()
        else:
            try:
                answer = kind.function(self, *step.args)
                if isinstance(answer, Awaitable):
                    answer = await answer
                text = self.names.value(answer)
            except Exception as error:
                text = self.names.error(error)
            self.say(f"  -> {text}")
        if step.joined and self.may_join(step, number + 1):
            await trio.lowlevel.checkpoint()
            return
        await self.settle()
        self.tell()

    def may_join(self, step: Step, following: int) -> bool:
        """Whether the step after this one may start in its tick."""
        closes = step.do == "connect" and step.scope  # see `check_idle`
        return not (closes or self.waits_by_number() or self.shares_input(step, following))

    def waits_by_number(self) -> bool:
        """Whether a task is in `trio.lowlevel.wait_readable` or `wait_writable`.

        On the ring it may be resumed a tick later, so that the rest of that tick decides what it finds.
        """
        waiting = (task.step.do for task in self.tasks.values() if not task.done.is_set())
        return not {"readable", "writable", "might_not_block"}.isdisjoint(waiting)

    def shares_input(self, step: Step, following: int) -> bool:
        """Whether this step and the one after it take input of one file by two descriptors, or the later one
        waits for it by number.

        The ring receives at the end of the tick where stock Trio tries at once, and the other way round
        where its first attempt found nothing: the order of the two is the tick's.
        """
        if following >= len(self.program.steps):
            return False
        other = self.program.steps[following]
        if not {step.do, other.do} <= INPUT:
            return False
        try:
            one, two = (self.fileno(call.args[0]) for call in (step, other))
            return os.path.samestat(os.fstat(one), os.fstat(two)) and (one != two or other.do == "readable")
        except (Missing, OSError, ValueError, AttributeError):
            return False

    # ---- the end -----------------------------------------------------------------------------------------

    async def clean_up(self) -> None:
        """What is left in the sockets, and then the closing, one after the other."""
        for name in list(self.children):
            self.say(f"child {name}: {STEPS['end_child'].function(self, name)}")
        await self.leftovers()
        if self.program.forgets:
            return
        for name, found in list(self.objects.items()):
            try:
                answer = None
                if isinstance(found, int):
                    trio.lowlevel.notify_closing(found)
                    os.close(found)
                elif hasattr(found, "aclose"):
                    with trio.fail_after(LONG):
                        await found.aclose()
                elif hasattr(found, "close"):
                    answer = found.close()
                text = self.names.value(answer)
            except Exception as error:
                text = self.names.error(error)
            if text != "None":
                self.say(f"closing {name}: {text}")
        await self.settle()

    async def leftovers(self) -> None:
        drain = STEPS["drain"].function
        for name in self.objects:
            try:
                self.inner(name)
                text = self.names.value(await drain(self, name))
            except Missing:
                continue
            except Exception as error:
                text = self.names.error(error)
            self.say(f"left in {name}: {text}")


SOCK_DIAG = 4
DUMP = 0x301
LISTENS, RECEIVES = 1 << 10, 1 << 7
"""The states of sockets, as bits, that hold a port although nobody is connected."""
KINDS = {
    "tcp": (socket.AF_INET, socket.IPPROTO_TCP, LISTENS),
    "tcp6": (socket.AF_INET6, socket.IPPROTO_TCP, LISTENS),
    "udp": (socket.AF_INET, socket.IPPROTO_UDP, RECEIVES),
}


def ports_taken(world: World) -> list[str]:
    """Which of the ports that the program used somebody listens on or receives at."""
    names = world.names.ports
    if not names:
        return []
    return sorted(f"{names[port]} ({kind})" for kind in KINDS for port in held_ports(kind) & names.keys())


def held_ports(kind: str) -> set[int]:
    """All such ports of this machine; see sock_diag(7)."""
    family, protocol, states = KINDS[kind]
    found: set[int] = set()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, SOCK_DIAG) as asked:
        asked.send(struct.pack("=IHHIIBBBxI48x", 72, 20, DUMP, 1, 0, family, protocol, 0, states))
        while True:
            answer = asked.recv(1 << 16)
            while answer:
                size, message = struct.unpack_from("=IH", answer)
                if message != 20:
                    return found
                found.add(int.from_bytes(answer[20:22], "big"))
                answer = answer[(size + 3) & ~3 :]
