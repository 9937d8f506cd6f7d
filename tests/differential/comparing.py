"""Two workers side by side: plays programs on both, compares, and shrinks a failing program.

Invariants
  - A difference counts if it is there at each of `LOOKS`, with a longer cushion. The kernel of a busy machine
    may deliver late what was sent over loopback.
  - It does not count if stock Trio itself says the same when it runs the tasks of batches in another order:
    it draws that order for each batch. A call that begins in the tick in which another step cancels it, or
    takes its input, comes before or after it; so do two calls that wait for input of one file by two
    descriptors, which one event wakes.
"""

from __future__ import annotations

import json
import operator
import re
import select
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType

    from .programs import Program
from .world import SPINS

__all__ = ["Difference", "Pair"]

ROOT = Path(__file__).parents[2]
PATIENCE = 30
ORDERS = 40
"""In how many others stock Trio plays a program that differs."""
LOOKS = (0.01, 0.03)
"""Cushions of the further looks at a program whose first transcripts differ."""


_ENDED = re.compile(r"  (\d+) (\w+) ended: (.*)", re.DOTALL)
_STEP = re.compile(r"(\d+) (\w+)")
_NUMBERS = re.compile(r"\b[a-z]?\d+\b|(?<=\[)[\d* ]*(?=\])")


class Worker:
    """A process that plays; a new one takes its place when it dies."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.process: Any = None
        self.errors: Any = None

    def start(self) -> None:
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.differential.worker", self.where],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
        )

    def ask(self, program: Program, cushion: float) -> None:
        if self.process is None:
            self.start()
        asked = json.dumps({"program": program.dump(), "cushion": cushion})
        try:
            self.process.stdin.write(asked.encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass

    def answer(self) -> list[str]:
        ready, _, _ = select.select([self.process.stdout], [], [], PATIENCE)
        line = self.process.stdout.readline() if ready else b""
        if line:
            found: list[str] = json.loads(line)
            return found
        if not ready:
            self.process.kill()
        status = self.process.wait()
        self.errors.seek(0)
        said = self.errors.read().decode(errors="replace")
        self.stop()
        # Of both the same would be no difference: each says who it is.
        return [f"the {self.where} process ended: {status}", *said.splitlines()[-25:]]

    def stop(self) -> None:
        if self.process is None:
            return
        self.process.stdin.close()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.errors.close()
        self.process = None


@dataclass
class Difference:
    program: Program
    stock: list[str]
    ring: list[str]

    def kind(self) -> tuple[str, str, str]:
        """The call that differs first, and what came of it in either world."""
        stock, ring = outcomes(self.stock), outcomes(self.ring)
        for key in sorted({**stock, **ring}):
            one, other = stock.get(key, "nothing"), ring.get(key, "nothing")
            if one != other:
                return key[1], kindred(one), kindred(other)
        return "order", "", ""

    def __str__(self) -> str:
        return side_by_side(self.program, self.stock, self.ring)


def without_spinning(stock: list[str], ring: list[str]) -> tuple[list[str], list[str]]:
    """Both transcripts up to the step in which stock Trio began to spin."""
    if SPINS not in stock:
        return stock, ring
    steps = [number for number, line in enumerate(stock[: stock.index(SPINS)]) if _STEP.match(line)]
    return stock[: steps[-1]], ring[: steps[-1]]


def outcomes(lines: list[str]) -> dict[tuple[int, str], str]:
    """What came of each step, by its number and name; what is told at the end has no number."""
    found, last = {}, (-1, "start")
    ended = False
    for line in lines:
        ended = ended or line == "the end"
        if match := _ENDED.fullmatch(line):
            found[int(match[1]), match[2]] = match[3] + (" at the end" if ended else "")
        elif line.startswith("  -> "):
            found[last] = line
        elif match := _STEP.match(line):
            last = int(match[1]), match[2]
        else:
            found[1000, line.partition(":")[0].partition(" in ")[0]] = line
    return found


def kindred(text: str) -> str:
    """The text without what differs from program to program."""
    return _NUMBERS.sub("N", text)


def side_by_side(program: Program, stock: list[str], ring: list[str]) -> str:
    lines = [str(program)]
    for number in range(max(len(stock), len(ring))):
        a = stock[number] if number < len(stock) else "(nothing)"
        b = ring[number] if number < len(ring) else "(nothing)"
        lines += [f"  {a}"] if a == b else [f"S {a}", f"R {b}"]
    return "\n".join(lines)


class Pair:
    """A stock worker and a ring worker; a context manager."""

    def __init__(self) -> None:
        self.stock, self.ring = Worker("stock"), Worker("ring")
        self.unsettled: set[int] = set()
        """Seeds of programs that differed at the first look alone."""
        self.reordered: set[int] = set()
        """Seeds of programs of which the ring says what stock Trio says in another order."""

    def __enter__(self) -> Pair:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stock.stop()
        self.ring.stop()

    def play(self, program: Program, cushion: float = 0) -> tuple[list[str], list[str]]:
        self.stock.ask(program, cushion)
        self.ring.ask(program, cushion)
        stock, ring = self.stock.answer(), self.ring.answer()
        return without_spinning(stock, ring)

    def is_an_order(self, program: Program, cushion: float) -> bool:
        """Whether stock Trio says the same as the ring in another order, in which it may spin elsewhere."""
        self.ring.ask(program, cushion)
        ring = self.ring.answer()
        others = [replace(program, draw=number) for number in range(1, ORDERS)]
        for other in (replace(program, backwards=not program.backwards), *others):
            self.stock.ask(other, cushion)
            if operator.eq(*without_spinning(self.stock.answer(), ring)):
                return True
        return False

    def compare(self, program: Program) -> Difference | None:
        stock, ring = self.play(program)
        if stock == ring:
            return None
        for cushion in LOOKS:
            stock, ring = self.play(program, cushion)
            if stock == ring:
                self.unsettled.add(program.seed)
                return None
        if self.is_an_order(program, LOOKS[-1]):
            self.reordered.add(program.seed)
            return None
        return Difference(program, stock, ring)

    def shrink(self, found: Difference) -> Difference:
        """A program with as few steps as still differ."""
        best = found
        best = self.without_circumstances(best)
        size = max(len(best.program.steps) // 2, 1)
        while size:
            at = 0
            while at < len(best.program.steps):
                less = self.compare(without(best.program, at, size))
                if less is None:
                    at += size
                else:
                    best = less
            size //= 2
        return self.without_circumstances(best)

    def without_circumstances(self, found: Difference) -> Difference:
        program = found.program
        for simpler in (
            replace(program, ring={}, backwards=False, forgets=False),
            replace(program, ring={}),
            replace(program, backwards=False),
            replace(program, forgets=False),
            replace(program, steps=[replace(step, joined=False) for step in program.steps]),
            replace(program, steps=[replace(step, scope="") for step in program.steps]),
        ):
            if simpler != found.program and (less := self.compare(simpler)) is not None:
                found = less
        return found


def without(program: Program, at: int, size: int) -> Program:
    """The program without some steps; numbers of steps in its arguments follow."""
    steps = []
    for number, step in enumerate(program.steps):
        if at <= number < at + size:
            continue
        if step.do == "cancel":
            (target,) = step.args
            if at <= target < at + size:
                target = -1
            elif target >= at + size:
                target -= size
            step = replace(step, args=[target])
        steps.append(step)
    return replace(program, steps=steps)
