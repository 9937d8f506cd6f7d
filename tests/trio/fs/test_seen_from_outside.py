"""What hooks and handlers of errors see of calls on files: auditing events, and errors without a context, on
stock Trio and on the ring."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Any

import pytest
import trio

import uring_trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

_heard: list[Any] | None = None
_vetoed = ""


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _heard is None or not (event == "open" or event.startswith("os.")):
        return
    if event == "open" and isinstance(arguments[0], int):
        return  # the object of the standard library's beside a file of the ring
    if event not in ("os.listdir", "os.scandir", "os.utime"):
        _heard.append((event, *arguments))
    if event == _vetoed:
        raise PermissionError("vetoed")


sys.addaudithook(_hook)


@contextlib.contextmanager
def hearing(veto: str = "") -> Iterator[list[Any]]:
    global _heard, _vetoed
    found: list[Any] = []
    _heard, _vetoed = found, veto
    try:
        yield found
    finally:
        _heard, _vetoed = None, ""


def both(program: Callable[[Any, Any], Awaitable[Any]]) -> tuple[Any, Any]:
    """What a program answers that is told how to open and of what class paths are."""
    stock = trio.run(program, trio.open_file, trio.Path)
    return stock, uring_trio.run(program, uring_trio.open_file, uring_trio.Path)


CHANGES: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("write_text", ("text",)),
    ("read_text", ()),
    ("read_bytes", ()),
    ("write_bytes", (b"bytes",)),
    ("rename", ("other",)),
    ("mkdir", ()),
    ("rmdir", ()),
    ("mkdir", (0o700, True)),
    ("rmdir", ()),
    ("symlink_to", ("target",)),
    ("unlink", ()),
    ("hardlink_to", ("other",)),
    ("replace", ("third",)),
    ("touch", (0o600, False)),
    ("unlink", ()),
    ("unlink", ()),
    ("read_text", ()),
)


def test_the_auditing_events_are_those_of_the_standard_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    async def program(opened: Any, paths: Any) -> list[Any]:
        with hearing() as found:
            for name, arguments in CHANGES:
                with contextlib.suppress(FileNotFoundError):
                    await getattr(paths("name"), name)(*arguments)
            for mode in ("w+", "rb", "r+b", "ab", "r", "r"):
                async with await opened("name", mode):
                    pass
            async with await opened("name", "r", opener=lambda path, flags: os.open(path, flags)):
                pass
            async with await opened("name", errors="replace"):
                pass
            with contextlib.suppress(FileNotFoundError):
                await opened("missing", "rb")
        for name in os.listdir("."):
            os.unlink(name)
        return found

    stock, ring = both(program)
    assert ring == stock
    assert {event for event, *_ in stock} >= {"open", "os.rename", "os.mkdir", "os.remove", "os.link"}


@pytest.mark.parametrize(
    ("event", "call", "arguments"),
    [
        ("open", "read_text", ()),
        ("open", "write_text", ("new",)),
        ("os.remove", "unlink", ()),
        ("os.rename", "rename", ("other",)),
        ("os.symlink", "symlink_to", ("other",)),
    ],
)
def test_a_hook_forbids_a_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, event: str, call: str, arguments: tuple[Any, ...]
) -> None:
    monkeypatch.chdir(tmp_path)

    async def program(opened: Any, paths: Any) -> Any:
        with open("name", "w") as file:
            file.write("as it was")
        await paths("name").read_text()  # from now on the flags of the mode are known
        with hearing(event), pytest.raises(PermissionError, match="vetoed"):
            await getattr(paths("name"), call)(*arguments)
        with open("name") as file:
            return sorted(os.listdir(".")), file.read()

    stock, ring = both(program)
    assert ring == stock == (["name"], "as it was")


async def failure(call: Callable[[], Awaitable[Any]]) -> tuple[Any, ...]:
    try:
        await call()
    except (OSError, ValueError) as exc:
        return type(exc), str(exc), exc.__context__, exc.__suppress_context__
    raise AssertionError


def test_an_error_has_no_context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    async def program(opened: Any, paths: Any) -> list[Any]:
        missing, here = paths("missing"), paths(".")
        pipe = os.pipe()
        closed = os.dup(pipe[0])
        os.close(closed)
        found = [
            await failure(call)
            for call in (
                lambda: opened("missing"),
                lambda: opened("missing/below", "w"),
                lambda: opened(".", "w"),
                lambda: opened(closed),
                lambda: opened(-1),
                lambda: opened(pipe[0], "r+"),
                missing.read_text,
                missing.stat,
                missing.lstat,
                missing.unlink,
                missing.rmdir,
                here.mkdir,
                (missing / "below").mkdir,
                lambda: here.mkdir(parents=True),
                lambda: missing.rename("other"),
                lambda: here.symlink_to("target"),
                lambda: here.hardlink_to("missing"),
                lambda: (missing / "below").touch(),
            )
        ]
        os.close(pipe[1])
        return found

    stock, ring = both(program)
    assert ring == stock
    assert all(context is None for _, _, context, _ in stock)


def test_a_cancellation_comes_before_wrong_arguments(path: Path) -> None:
    path.write_text("as it was")

    async def program(opened: Any, paths: Any) -> list[bool]:
        found = []
        for call in (
            lambda: opened(path, "wrong"),
            lambda: opened(None),
            lambda: opened(path, encoding="wrong"),
            lambda: paths(path).write_text(5),
            lambda: paths(path).write_bytes("text"),
        ):
            with trio.CancelScope() as scope:
                scope.cancel()
                await call()  # type: ignore[no-untyped-call]
            found.append(scope.cancelled_caught)
        return found

    stock, ring = both(program)
    assert ring == stock == [True] * 5


@pytest.mark.parametrize("mode", ["r", "rb"])
def test_a_detached_file_does_not_say_whether_it_is_closed(path: Path, mode: str) -> None:
    path.write_text("as it was")

    async def program(opened: Any, _: Any) -> list[Any]:
        file = await opened(path, mode)
        under = await file.detach()
        found: list[Any] = []
        try:
            found.append(file.closed)
        except ValueError as exc:
            found.append(str(exc))
        try:
            await file.aclose()
        except ValueError as exc:
            found.append(str(exc))
        await under.aclose()
        return found

    stock, ring = both(program)
    assert ring == stock
    assert all(isinstance(each, str) for each in stock)
