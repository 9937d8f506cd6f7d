"""The launcher: ``python -m uring_trio app.py`` runs a program with every Trio run of it on a ring.

The program is what Python itself would run (a script, a directory or archive with a ``__main__``, a module
after ``-m``, a text after ``-c``), or the name of an installed console program. It runs as ``__main__`` in
this process with its own ``sys.argv``; its exit status and Ctrl-C are its own. Only code on Trio changes:
asyncio stays asyncio. Python processes that the program starts (workers of a server, multiprocessing's
children) are on the ring too, with the same options, by `uring_trio.launch.environment`.

``python -m uring_trio top PID`` is `uring_trio.live.view`; a script of that name is ``./top``.

Exit status before the program starts: 1 there is no usable io_uring, or no such module; 2 wrong usage, or no
such script.
"""

from __future__ import annotations

import argparse
import builtins
import importlib.util
import os
import runpy
import shutil
import sys
import textwrap
import types
from importlib.machinery import BuiltinImporter, SourceFileLoader, SourcelessFileLoader
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, cast
from zipfile import is_zipfile

from uring import __version__
from uring.errors import RingUnavailable

from .launch.environment import Switch
from .options import RingOptions
from .seams import UnsupportedTrio

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["main"]

PROG = "python -m uring_trio"
_WITH_VALUE = ("--ring", "--unavailable")
_NAMES_PROGRAM = ("-m", "-c")
_ANNOTATIONS: dict[str, object] = {"__annotations__": {}} if sys.version_info < (3, 14) else {}
"""What a program's namespace begins with besides; a later Python makes it when it is asked for."""


def main(argv: Sequence[str] | None = None) -> None:
    """Puts Trio on the ring in this process, then becomes the program.

    Returns when the program does.

    Raises:
        SystemExit: the program's own, wrong usage, or a program that is not there.
        BaseException: whatever else the program raises.
    """
    own, words = _split(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["top"] and not own:
        from .live.view import main as top

        top(words[1:])
        return
    parser = _parser()
    options = parser.parse_args(own)
    find: Callable[[str], Callable[[], object]] = _find_script
    if words[:1] in (["-m"], ["-c"]):
        find = _find_module if words.pop(0) == "-m" else _find_text
    if not words:
        parser.error("name a script, -m and a module, -c and a text, or an installed program")
    start = find(words[0])
    switch = Switch(options.ring, options.unavailable, stats=options.stats)
    try:
        switch.install()
    except (RingUnavailable, UnsupportedTrio) as exc:
        sys.exit(f"{PROG}: {exc}")
    switch.export(os.environ)
    sys.argv = ["-c", *words[1:]] if find is _find_text else words
    start()


def _split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """The launcher's options, and the program's words: from its name, -m or -c on."""
    own: list[str] = []
    rest = list(argv)
    while rest and rest[0].startswith("-") and not rest[0].startswith(_NAMES_PROGRAM):
        word = rest.pop(0)
        if word == "--":
            return own, rest
        own.append(word)
        if word in _WITH_VALUE and rest:
            own.append(rest.pop(0))
    if rest and rest[0].startswith(_NAMES_PROGRAM) and len(rest[0]) > 2:
        rest[:1] = [rest[0][:2], rest[0][2:]]
    return own, rest


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROG,
        usage=f"{PROG} [options] (script | -m module | -c text | program) [arguments]",
        description="Runs a Trio or AnyIO program on io_uring, unchanged. What follows its name is for it.",
        epilog=f"{PROG} top PID shows a running service that was started with --ring monitor=1. "
        "Python processes that the program starts are on the ring too. The same without a change to the "
        "command: set URING_TRIO=1 in its environment.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--ring",
        type=_ring_options,
        metavar="NAME=VALUE,…",
        help="settings of the ring: the fields of uring_trio.RingOptions, e.g. entries=512",
    )
    parser.add_argument("--version", action="version", version=f"uring_trio {__version__}")
    parser.add_argument("--stats", action="store_true", help="print what the rings did to stderr at exit")
    parser.add_argument(
        "--unavailable",
        choices=["raise", "epoll"],
        default="raise",
        help="without a usable io_uring: say why and stop (raise, the default), or warn and run on epoll",
    )
    return parser


def _ring_options(text: str) -> RingOptions:
    try:
        return RingOptions.parse(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from None


def _find_module(name: str) -> Callable[[], object]:
    try:
        found = importlib.util.find_spec(name)
    except ModuleNotFoundError as exc:
        # A missing parent of the module; not something that the parent imports.
        if exc.name is None or not f"{name}.".startswith(f"{exc.name}."):
            raise
        found = None
    if found is None:
        sys.exit(f"{PROG}: no module named {name}")
    return lambda: runpy.run_module(name, run_name="__main__", alter_sys=True)


def _find_script(name: str) -> Callable[[], object]:
    path = Path(name)
    if path.is_file() or (path.is_dir() and (path / "__main__.py").is_file()):
        return lambda: _run_script(path)
    for program in entry_points(group="console_scripts", name=name):
        return lambda: _run_program(name, program.load())
    print(f"{PROG}: {name} is neither a script nor an installed program", file=sys.stderr)
    sys.exit(2)


def _find_text(text: str) -> Callable[[], object]:
    return lambda: _run_text(text)


def _run_text(text: str) -> None:
    if not sys.flags.safe_path:
        sys.path[0] = ""
    if sys.version_info >= (3, 14):  # since then Python takes an indented text
        text = textwrap.dedent(text)
    module = types.ModuleType("__main__")
    vars(module).update(__loader__=BuiltinImporter, __builtins__=builtins, **_ANNOTATIONS)
    sys.modules["__main__"] = module
    exec(compile(text, "<string>", "exec"), vars(module))


def _run_script(path: Path) -> None:
    path = path.absolute()
    plain = path.is_file() and not is_zipfile(path)
    if not sys.flags.safe_path:
        # The current directory, which ``-m uring_trio`` put there. A directory or archive adds itself.
        del sys.path[0]
        if plain:
            sys.path.insert(0, str(path.resolve().parent))
    if not plain:
        runpy.run_path(str(path), run_name="__main__")
        return
    # Not by runpy, which would rename the program in sys.argv, and take its module away from the threads and
    # exit functions that outlive it.
    module = types.ModuleType("__main__")
    code, loader = _load(str(path))
    vars(module).update(__file__=str(path), __loader__=loader, __builtins__=builtins, __cached__=None)
    vars(module).update(_ANNOTATIONS)
    sys.modules["__main__"] = module
    exec(code, vars(module))


def _load(path: str) -> tuple[types.CodeType, object]:
    if path.endswith(".pyc"):
        compiled = SourcelessFileLoader("__main__", path)
        return cast("types.CodeType", compiled.get_code("__main__")), compiled
    source = SourceFileLoader("__main__", path)
    # Not by its ``get_code``, which would write a cache that Python writes for no script.
    return source.source_to_code(source.get_data(path), path), source


def _run_program(name: str, function: Callable[[], object]) -> None:
    # As with -m, the current directory stays first on the path.
    sys.argv[0] = shutil.which(name) or name
    sys.exit(function())  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
