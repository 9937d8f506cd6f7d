"""A process that plays programs, one after the other, on Trio's own loop or on the ring.

``python -m tests.differential.worker stock|ring``: a line of JSON is a program, a line of JSON its
transcript.

Invariant: a program leaves nothing behind for the next: descriptors that it left open are told and closed.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import os
import random
import shutil
import sys
import tempfile
import threading
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import trio

from . import descriptors, files, sockets
from .programs import Program
from .world import World, ports_taken

__all__ = ["main", "transcript"]

STEPS_ARE_IN = (sockets, descriptors, files)
HANG = 25


class FixedOrder(random.Random):
    """Takes the place of the random order in which Trio runs the tasks of a batch, which it sorts by age."""

    def __init__(self, backwards: bool, draw: int) -> None:
        super().__init__(draw)
        self.backwards = backwards
        self.drawn = bool(draw)

    def shuffle(self, x: Any) -> None:
        if self.random() < 0.5 if self.drawn else self.backwards:
            x.reverse()


def fix_order(backwards: bool, draw: int = 0) -> None:
    order = FixedOrder(backwards, draw)
    trio._core._run._r = order  # type: ignore[attr-defined]
    trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[attr-defined]


def open_now() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue
    return found


def kind_of(target: str) -> str:
    return target.partition(":")[0] if not target.startswith("/") else "file"


def emptied(folder: str) -> None:
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry)
        else:
            os.unlink(entry)


def forget_frames(error: BaseException | None) -> None:
    """Frames that an exception went through keep what they worked on: the collector would end that, in an
    order of its own. Without them objects end in the order in which they were made."""
    if error is None:
        return
    error.__traceback__ = None
    forget_frames(error.__context__)
    forget_frames(error.__cause__)
    for inner in getattr(error, "exceptions", ()):
        forget_frames(inner)


def forget(world: World) -> None:
    """Drops what the program made. No frame that goes on may keep a task: its error may keep a file."""
    for task in world.tasks.values():
        forget_frames(task.error)
    world.tasks.clear()
    world.objects.clear()


def transcript(program: Program, run: Any, cushion: float, folder: str) -> list[str]:
    """What the program said, and what was left of it. The folder is empty before and after it."""
    home = os.getcwd()
    os.chdir(folder)
    before = open_now()
    world = World(program, folder, cushion)
    fix_order(program.backwards, program.draw)
    unraisable: list[str] = []
    hook = sys.unraisablehook
    sys.unraisablehook = lambda found: unraisable.append(world.names.error(found.exc_value or Exception()))
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            try:
                run(world.play, program)
            except BaseException as error:
                world.say(f"the run failed: {world.names.error(error)}")
            forget(world)
            gc.collect()
        for child in world.children:
            world.say(f"child left: {child}")
        told = sorted(
            f"{found.category.__name__}: {world.names.text(str(found.message))}" for found in warned
        )
        world.lines += [line for line in told if "multi-threaded, use of fork" not in line]
        world.lines += sorted(f"unraisable: {line}" for line in unraisable)
        after = open_now()
        left = {fd: target for fd, target in after.items() if before.get(fd) != target}
        gone = {fd: target for fd, target in before.items() if after.get(fd) != target}
        world.say(f"left open: {sorted(Counter(map(kind_of, left.values())).items())}")
        if gone:
            world.say(f"closed, though the program did not open it: {sorted(map(kind_of, gone.values()))}")
        for fd in left:
            os.close(fd)
        world.say(f"ports taken: {ports_taken(world)}")
        for path in sorted(Path().glob("*-f*")):
            if not (program.forgets and str(path) in world.unsure_if_forgotten):
                world.say(f"{path}: {files.shorter(path.read_bytes())}")
    finally:
        sys.unraisablehook = hook
        os.chdir(home)
        emptied(folder)
    return world.lines


def on_stock(play: Any, program: Program) -> None:
    trio.run(play)


def main(where: str) -> None:
    if where == "ring":
        import uring_trio

        # Files too, though nothing else of the run is chosen here.
        uring_trio.install(files=True)

        def run(play: Any, program: Program) -> None:
            uring_trio.run(play, ring=uring_trio.RingOptions(**program.ring))
    else:
        run = on_stock
    faulthandler.enable()
    # The collection after each program looks at what the program made, not at the modules.
    gc.freeze()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    with tempfile.TemporaryDirectory(prefix="differential-") as folder:
        for line in sys.stdin:
            asked = json.loads(line)
            faulthandler.dump_traceback_later(HANG, exit=True)
            lines = transcript(Program.load(asked["program"]), run, asked["cushion"], folder)
            faulthandler.cancel_dump_traceback_later()
            answers.write(json.dumps(lines) + "\n")
            answers.flush()
            # Idle threads of Trio keep no descriptor.
            assert threading.active_count() < 50


if __name__ == "__main__":
    main(sys.argv[1])
