"""Values and errors as text that is the same wherever the kernel is free to choose.

Ports, descriptor numbers and addresses in memory are replaced by names. A step sends one byte repeated, its
tag, so received bytes are written as ``tag*count``. The kernel may cut a large send anywhere: there the
count is left out, the order of the tags is kept.

Invariant: nothing else is left out. Each exception is named here with its reason.
"""

from __future__ import annotations

import enum
import os
import re
import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["LARGE", "Names"]

LARGE = 5000
"""From this many bytes on the kernel's buffers decide how much one call takes."""

_MEMORY = re.compile(r"0x[0-9a-f]{6,}")
_DESCRIPTOR = re.compile(r"\bfd=-?\d+")
_CLASS = re.compile(r"^'[\w.]+' object has no attribute")
_ABSTRACT = re.compile(r"b'\\x00[0-9a-f]{5}'")
_PEER = re.compile(r"(unclosed <socket[^>]*), raddr=[^>]*>")
_UNWRITTEN = re.compile(rf"(unclosed <socket[^>]* family={int(socket.AF_INET)}, [^>]*laddr=\(')::[^']*")
_FORGOTTEN = re.compile(r"<_io\.\w+ name=('[^']*')[^>]*>")
_FAMILIES = {socket.AF_INET: "inet", socket.AF_INET6: "inet6", socket.AF_UNIX: "unix"}


def runs_of(data: bytes) -> Iterator[tuple[int, int]]:
    """Each byte value and how often it is repeated; much data is of one value, mostly."""
    while data:
        tag = data[0]
        size = len(data) if data.count(tag) == len(data) else len(data) - len(data.lstrip(data[:1]))
        yield tag, size
        data = data[size:]


class Names:
    """The names of one program's world."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.ports: dict[int, str] = {}
        self.large: set[int] = set()

    def learn(self, name: str, sock: Any) -> None:
        """Gives the socket's port, if it has one, the name of the socket."""
        try:
            address = sock.getsockname()
        except (OSError, ValueError):
            return
        if isinstance(address, tuple) and len(address) >= 2 and address[1]:
            self.ports.setdefault(address[1], f"port of {name}")

    def value(self, value: Any) -> str:
        match value:
            case bytes() | bytearray() | memoryview():
                return self.content(bytes(value))
            case bool() | None:
                return repr(value)
            case enum.Enum():
                return repr(int(value)) if isinstance(value, int) else repr(value)
            case os.stat_result():
                return f"stat mode={value.st_mode:o} size={value.st_size}"
            case int():
                return self.ports.get(value, repr(int(value)))
            case (str(host), int(port), *more) if "." in host or ":" in host:
                # A port that no object has is the kernel's choice for a socket that is gone, or a child's.
                place = "0" if port == 0 else self.ports.get(port, "some port")
                return f"({host}, {place}{''.join(f', {one}' for one in more)})"
            case tuple() | list():
                return "(" + ", ".join(self.value(one) for one in value) + ")"
            case socket.socket():
                return f"<socket {_FAMILIES.get(value.family, value.family)} {int(value.type)}>"
            case str():
                return repr(self.text(value))
        if hasattr(value, "_sock"):
            return f"<{type(value).__mro__[-2].__name__} {self.value(value._sock)}>"
        return self.text(repr(value))

    def content(self, data: bytes) -> str:
        """Bytes as runs of tags."""
        if data.startswith(b"\0") and len(data) == 6:
            return "an abstract name"
        runs: list[str] = []
        for tag, size in runs_of(data):
            runs.append(f"{tag}*" if tag in self.large else f"{tag}*{size}")
        return f"[{' '.join(runs)}]"

    def error(self, error: BaseException) -> str:
        if isinstance(error, BaseExceptionGroup):
            inner = ", ".join(self.error(one) for one in error.exceptions)
            return f"{type(error).__name__}[{inner}]"
        number = f" errno {error.errno}" if isinstance(error, OSError) else ""
        cause = f" from {type(error.__cause__).__name__}" if error.__cause__ is not None else ""
        return f"{type(error).__name__}{number} {self.text(str(error))!r}{cause}"

    def text(self, text: str) -> str:
        text = text.replace(self.folder, "FOLDER")
        text = _MEMORY.sub("0x", text)
        text = _DESCRIPTOR.sub("fd=", text)
        # The kernel chooses the name of a Unix socket that sends its credentials and has none.
        text = _ABSTRACT.sub("an abstract name", text)
        # Whether a forgotten socket still has a peer depends on when the kernel sees the peer's end.
        text = _PEER.sub(r"\1>", text)
        # An IPv4 socket whose number is an IPv6 socket's by now has room for less than the kernel's address:
        # Python reads memory behind it that nothing was written to.
        text = _UNWRITTEN.sub(r"\1an address", text)
        # Which of the layers of a forgotten file the collector meets first is its choice.
        text = _FORGOTTEN.sub(r"\1", text)
        # Files of the ring have classes of their own.
        text = _CLASS.sub("the object has no attribute", text)
        for port, name in self.ports.items():
            text = re.sub(rf"\b{port}\b", name, text)
        return text
