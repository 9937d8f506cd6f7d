"""The steps on files."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zlib import crc32

import trio

from .world import World, finishing

LINES = b"".join(b"line %d with some text\n" % number for number in range(400))


@finishing
async def open_(world: World, what: str, mode: str, name: str) -> None:
    path = {"file": f"file-{name}", "new": f"new-{name}", "folder": ".", "null": "/dev/null"}[what]
    if what == "file":
        Path(path).write_bytes(LINES)
    buffering = 0 if mode.endswith("0") else -1
    options = {} if "b" in mode else {"encoding": "latin-1"}
    world.objects[name] = await trio.open_file(path, mode.rstrip("0"), buffering, **options)


@finishing
async def file(world: World, name: str, do: str, size: int | None) -> Any:
    """A call of a file.

    An exception and the frames that it went through keep each other and the file. When the file is
    forgotten, the collector ends the layers of stock Trio's in an order of its own, and what was written may
    be lost. The ring writes it. So the contents of such a file are not compared.
    """
    found = world.get(name)
    try:
        return await called(world, name, found, do, size)
    except BaseException:
        world.unsure_if_forgotten.add(str(getattr(found, "name", None)))
        raise


async def called(world: World, name: str, found: Any, do: str, size: int | None) -> Any:
    binary = "b" in getattr(found, "mode", "b") if isinstance(getattr(found, "mode", ""), str) else True
    data: Any = world.data(size if size is not None and size > 0 else 3)
    if not binary:
        data = data.decode("latin-1")
    match do:
        case "read" | "readline" | "readlines":
            got = await getattr(found, do)(*([] if size is None else [size]))
            return shorter(got)
        case "read1" | "peek":
            return shorter(await getattr(found, do)(10))
        case "readinto":
            memory = bytearray(50)
            return await found.readinto(memory), shorter(bytes(memory))
        case "next":
            return shorter(await anext(found))
        case "write":
            return await found.write(data)
        case "writelines":
            return await found.writelines([data, data])
        case "flush" | "tell" | "aclose":
            return await getattr(found, do)()
        case "detach":
            world.objects[name] = await found.detach()
            return "detached"
        case "truncate":
            return await found.truncate(size)
        case "seek":
            return await found.seek(size if size is not None else 3)
        case "seek_end":
            return await found.seek(0, 2)
        case "content":
            return shorter(Path(found.name).read_bytes())
        case "fileno":
            return found.fileno() >= 0
        case "closed" | "name":
            return getattr(found, do)
    return getattr(found, do)()


def shorter(found: Any) -> Any:
    """Text that tells long contents apart."""
    text = repr(found)
    checksum = crc32(text.encode(errors="surrogatepass"))
    return text if len(text) < 120 else f"{text[:50]} ... {text[-50:]} ({len(text)}, {checksum})"
