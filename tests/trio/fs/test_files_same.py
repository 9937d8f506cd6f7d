"""A file on the ring and a file of the standard library, told to do the same, do the same.

Each example makes two files with the same bytes, opens one with `open` and one with `open_file`, and makes
the same calls on both: results, exceptions, positions and the bytes that are in the file after each call
agree.
"""

import gc
import warnings
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st

import uring_trio
from uring_trio.fs import open_file

WRAPPED = "wrapped."
sizes = st.integers(-1, 40)
places = st.integers(0, 60)
octets = st.binary(max_size=30) | st.sampled_from([b"\n", b"a\nb", b"\r\n", b"x" * 50])
texts = st.text(st.sampled_from("ab\n\ré€𝄞\x85"), max_size=20)
encodings = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32-le", "latin-1", "ascii", "shift_jis"])


def calls(
    data: st.SearchStrategy[Any], *, text: bool, wrapped_too: bool = False
) -> st.SearchStrategy[list[tuple[str, tuple[Any, ...]]]]:
    common = [
        st.tuples(st.sampled_from(["read", "readline"]), st.tuples(sizes)),
        st.tuples(st.just("write"), st.tuples(data)),
        st.tuples(st.just("writelines"), st.tuples(st.lists(data, max_size=3))),
        st.tuples(
            st.sampled_from(["flush", "tell", "readlines", "readable", "writable", "seekable"]), st.just(())
        ),
        st.tuples(st.just("truncate"), st.just(()) | st.tuples(places)),
        st.tuples(st.just("read"), st.tuples(st.none())),
        st.tuples(st.just("next"), st.just(())),
    ]
    if text:
        common += [
            st.tuples(st.just("seek"), st.tuples(st.just(0), st.integers(0, 3))),
            st.tuples(st.just("seek"), st.tuples(st.integers(-1, 1), st.integers(0, 2))),
            st.tuples(st.just("return"), st.tuples(st.integers(0, 9))),
        ]
    else:
        common += [
            st.tuples(
                st.just("seek"), st.tuples(places) | st.tuples(st.integers(-40, 40), st.integers(0, 2))
            ),
            st.tuples(st.sampled_from(["read1", "peek"]), st.tuples(sizes)),
            st.tuples(st.sampled_from(["into", "into1"]), st.tuples(places)),
            # Not for text: after lines were left over the standard library's positions are wrong.
            st.tuples(st.just("readlines"), st.tuples(places)),
        ]
    call = st.one_of(common)
    if text and wrapped_too:  # after `readlines` the standard library tells no position until it flushes
        call = call.filter(lambda made: made[0] != "readlines")
    wrapped = call.map(lambda made: (WRAPPED + made[0], made[1]))
    return st.lists(call | wrapped if wrapped_too else call, max_size=14)


class Sync:
    """A file of the standard library, called as the other one is."""

    def __init__(self, file: Any) -> None:
        self.file = file

    async def call(self, name: str, arguments: tuple[Any, ...]) -> Any:
        return getattr(self.file, name.removeprefix(WRAPPED))(*arguments)


class Ring:
    def __init__(self, file: Any) -> None:
        self.file = file

    async def call(self, name: str, arguments: tuple[Any, ...]) -> Any:
        if name.startswith(WRAPPED):
            return getattr(self.file.wrapped, name.removeprefix(WRAPPED))(*arguments)
        result = getattr(self.file, name)(*arguments)
        return result if name in ("readable", "writable", "seekable") else await result


async def play(side: Any, path: Path, script: list[tuple[str, tuple[Any, ...]]]) -> list[Any]:
    """What each call came to, and what was in the file then."""
    told = []
    cookies = [0]
    for called, arguments in script:
        name = called.removeprefix(WRAPPED)
        where = called.removesuffix(name)
        try:
            if name == "next":
                result = await side.call(where + "readline", ())
            elif name in ("into", "into1"):
                room = bytearray(arguments[0])
                result = (await side.call(where + "readinto" + name[4:], (room,)), bytes(room))
            elif name == "return":
                result = await side.call(where + "seek", (cookies[arguments[0] % len(cookies)],))
            else:
                result = await side.call(called, arguments)
                if name == "tell":
                    cookies.append(result)
        except (ValueError, OSError, TypeError, AttributeError, OverflowError) as exc:
            text = "" if isinstance(exc, AttributeError) else str(exc)  # it names the class
            result = (type(exc), text, getattr(exc, "errno", None))
        told.append((called, arguments, result, path.read_bytes()))
    return told


def compare(tmp: Path, start: bytes, script: Any, *arguments: Any, end: str = "close", **named: Any) -> None:
    sides = {"ours": tmp / "ours", "theirs": tmp / "theirs"}
    for path in sides.values():
        path.write_bytes(start)
        if arguments[0].startswith("x"):
            path.unlink()

    async def side(name: str) -> Any:
        path = sides[name]
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            if name == "theirs":
                file: Any = open(path, *arguments, **named)  # noqa: SIM115
                told = await play(Sync(file), path, script)
                if end == "close":
                    file.close()
            else:
                file = await open_file(path, *arguments, **named)
                told = await play(Ring(file), path, script)
                if end == "close":
                    await file.aclose()
                elif end == "drop wrapped":
                    file = file.wrapped
            alive = weakref.ref(file)
            del file
            for _ in range(1000):  # what a thread raised refers to itself, and to the thread for a while
                # An idle thread may keep its last call; it finalizes what it drops before the next one.
                await trio.to_thread.run_sync(bool)
                if end == "close" or alive() is None or any(w.source is alive() for w in warned):
                    break
                gc.collect()
                await trio.sleep(0.001)
        return told, [(w.category, str(w.message).replace(name, "")) for w in warned], path.read_bytes()

    async def main() -> tuple[Any, Any]:
        return await side("theirs"), await side("ours")

    theirs, ours = uring_trio.run(main)
    # What was written may reach the file earlier where it is handed over.
    handed = any(called.startswith(WRAPPED) for called, _ in script)
    for one, other in zip(theirs[0], ours[0]):
        assert one[: 3 if handed else 4] == other[: 3 if handed else 4]
    assert theirs[1:] == ours[1:]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    gc.freeze()  # `compare` collects often
    yield tmp_path_factory.mktemp("same")
    gc.unfreeze()


@settings(max_examples=300, deadline=None)
@given(
    start=st.binary(max_size=80) | st.lists(octets, max_size=6).map(b"".join),
    mode=st.sampled_from(["rb", "wb", "ab", "xb", "r+b", "w+b", "a+b"]),
    buffering=st.sampled_from([-1, 0, 1, 2, 3, 7, 16]),
    script=calls(octets, text=False),
)
# A failed seek is how a raw file learns that it is not seekable, unless it has asked before.
@example(start=b"", mode="rb", buffering=0, script=[("read", (None,)), ("seek", (-1, 0)), ("seekable", ())])
@example(start=b"", mode="wb", buffering=0, script=[("write", (b"x",)), ("seek", (-1, 0)), ("seekable", ())])
def test_binary(folder: Path, start: bytes, mode: str, buffering: int, script: Any) -> None:
    compare(folder, start, script, mode, buffering)


@settings(max_examples=300, deadline=None)
@given(
    start=st.lists(texts, max_size=5).map("".join),
    mode=st.sampled_from(["r", "w", "a", "x", "r+", "w+", "a+"]),
    buffering=st.sampled_from([-1, 1, 2, 5, 16]),
    encoding=encodings,
    errors=st.sampled_from(["strict", "replace", "ignore", "surrogateescape"]),
    newline=st.sampled_from([None, "", "\n", "\r", "\r\n"]),
    script=calls(texts, text=True),
)
@example(  # decoded from the middle on, where no byte order mark is expected
    start="a",
    mode="r",
    buffering=-1,
    encoding="utf-16",
    errors="strict",
    newline=None,
    script=[("seek", (1, 0)), ("read", (1,)), ("tell", ())],
)
def test_text(
    folder: Path,
    start: str,
    mode: str,
    buffering: int,
    encoding: str,
    errors: str,
    newline: str | None,
    script: Any,
) -> None:
    data = start.encode(encoding, "replace")
    compare(folder, data, script, mode, buffering, encoding=encoding, errors=errors, newline=newline)


ends = st.sampled_from(["close", "drop", "drop wrapped"])


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    start=st.binary(max_size=80) | st.lists(octets, max_size=6).map(b"".join),
    mode=st.sampled_from(["rb", "wb", "ab", "xb", "r+b", "w+b", "a+b"]),
    buffering=st.sampled_from([-1, 0, 1, 2, 3, 7, 16]),
    script=calls(octets, text=False, wrapped_too=True),
    end=ends,
)
def test_binary_wrapped(folder: Path, start: bytes, mode: str, buffering: int, script: Any, end: str) -> None:
    compare(folder, start, script, mode, buffering, end=end)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    start=st.lists(texts, max_size=5).map("".join),
    mode=st.sampled_from(["r", "w", "a", "x", "r+", "w+", "a+"]),
    buffering=st.sampled_from([-1, 1, 2, 5, 16]),
    encoding=encodings,
    errors=st.sampled_from(["strict", "replace", "ignore", "surrogateescape"]),
    newline=st.sampled_from([None, "", "\n", "\r", "\r\n"]),
    script=calls(texts, text=True, wrapped_too=True),
    end=ends,
)
@example(  # where a write goes after a read depends on how much was decoded
    start="aa",
    mode="r+",
    buffering=-1,
    encoding="utf-8",
    errors="strict",
    newline=None,
    script=[("read", (1,)), ("wrapped.write", ("b",)), ("tell", ())],
    end="close",
)
@example(  # what is written and not flushed does not move where the next read begins, in some Pythons
    start="hello\nworld\n",
    mode="r+",
    buffering=-1,
    encoding="utf-8",
    errors="strict",
    newline=None,
    script=[("write", ("ab",)), ("wrapped.readline", (-1,)), ("wrapped.tell", ()), ("wrapped.write", ("q",))],
    end="close",
)
@example(  # nor does a byte order mark alone
    start="",
    mode="r+",
    buffering=-1,
    encoding="utf-8-sig",
    errors="strict",
    newline=None,
    script=[("write", ("",)), ("wrapped.readline", (-1,))],
    end="close",
)
def test_text_wrapped(
    folder: Path,
    start: str,
    mode: str,
    buffering: int,
    encoding: str,
    errors: str,
    newline: str | None,
    script: Any,
    end: str,
) -> None:
    data = start.encode(encoding, "replace")
    compare(folder, data, script, mode, buffering, encoding=encoding, errors=errors, newline=newline, end=end)


class Three:
    """No number, but what some calls take for one."""

    def __index__(self) -> int:
        return 3

    def __repr__(self) -> str:
        return "Three()"


TARGETS = (1.5, 0.0, -1.5, "x", None, Three(), [], True)
DIRECTIONS = ("x", 1.0, 2.0, None, True, Three(), -1, 1 << 40, 1 << 70)
FAR = (float("nan"), float("inf"), 1 << 63, (1 << 64) - 1, 1 << 64, 3 << 128, 1 << 168, 1 << 200)


@pytest.mark.parametrize(
    "arguments",
    [
        *((target, whence) for target in TARGETS for whence in range(4)),
        *((0, whence) for whence in DIRECTIONS),
        *((target,) for target in FAR),
    ],
    ids=repr,
)
@pytest.mark.parametrize(("mode", "buffering"), [("r", -1), ("r+", -1), ("rb", -1), ("r+b", -1), ("rb", 0)])
def test_senseless_seeks(folder: Path, mode: str, buffering: int, arguments: tuple[Any, ...]) -> None:
    script = [("read", (2,)), ("seek", arguments), ("tell", ()), ("read", (3,))]
    compare(folder, b"hello world", script, mode, buffering)
