"""The kernel's arrays for the tables of files and buffers."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from ..contexts.context import CTX_MODE_RESERVED
from ..kernel.memory import pin_writable, zeroed
from ..ops.base import check_int

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Buffer

__all__ = ["packed", "vectors"]

_MESSAGE_MAX = (1 << 62) - 1


def vectors(
    buffers: Sequence[Buffer | None],
) -> tuple[list[tuple[memoryview, object] | None], list[tuple[int, int]]]:
    """Pinned views of the buffers, and their iovecs; None is an empty slot."""
    pinned: list[tuple[memoryview, object] | None] = []
    iovecs = []
    for buffer in buffers:
        if buffer is None:
            pinned.append(None)
            iovecs.append((0, 0))
            continue
        address, length, held = pin_writable(buffer)
        if not 1 <= length <= 1 << 30:
            raise ValueError(f"a registered buffer has 1 byte to 1 GiB, not {length}")
        pinned.append((memoryview(buffer).cast("B"), held))
        iovecs.append((address, length))
    return pinned, iovecs


def packed(kind: str, items: Sequence[Any], tags: Sequence[int]) -> tuple[Any, Any]:
    """Arrays of the items and of the tags."""
    packer = struct.Struct("=" + kind)
    data = zeroed(packer.size * len(items))
    for i, item in enumerate(items):
        packer.pack_into(data.view, i * packer.size, *(item if isinstance(item, tuple) else (item,)))
    if not tags:
        return data, None
    if len(tags) != len(items):
        raise ValueError(f"there are {len(items)} items and {len(tags)} tags")
    tagged = zeroed(8 * len(tags))
    for i, tag in enumerate(tags):
        tag = check_int("a tag", tag, 0, _MESSAGE_MAX)
        struct.pack_into("=Q", tagged.view, 8 * i, tag and tag | CTX_MODE_RESERVED)
    return data, tagged
