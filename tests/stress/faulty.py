"""The trial of faults: each error at each call of `tests.faults`, as far as its time goes."""

from __future__ import annotations

import subprocess
from collections import Counter
from time import monotonic
from typing import TYPE_CHECKING, Any

from tests.faults.__main__ import begin
from tests.faults.programs import PROGRAMS

from .parts import part

if TYPE_CHECKING:
    import random

__all__: list[str] = []


@part
def faults(chance: random.Random, seconds: float) -> dict[str, Any]:
    """A system call of the shim fails, at any call of a program, with any error: the same answer, or an error
    that names it."""
    counts = Counter[str]()
    until, names = monotonic() + seconds, list(PROGRAMS)
    while True:
        chance.shuffle(names)
        for name in names:
            done = begin(
                ["--only", name, "--seconds", f"{max(1.0, until - monotonic()):.0f}"],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            assert done.returncode == 0, f"{name}\n{done.stdout[-5000:]}{done.stderr[-1000:]}"
            counts["faults"] += int(done.stdout.splitlines()[-1].split()[0])
            counts["programs"] += 1
            if monotonic() > until:
                return {**counts, "hangs, losses": 0}
