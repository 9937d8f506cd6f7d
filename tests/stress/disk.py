"""A disk that forgets what was not synced: every state of it that a power cut may leave.

`Recorder` stands in front of a run's ring and keeps, in order, what the run asks of files: the bytes of each
write when it is submitted, and when each write, truncation, rename and sync has completed. `Disk` plays a
beginning of that record and chooses what had reached the storage by then.

The model
  - A sync that completed keeps what had completed before it was submitted: for a file its bytes and size, for
    a folder its names.
  - Anything else is there or not, each for itself and in any order: a write as a whole, as a part of its
    sectors, or as zeros where it made the file longer; a truncation; a name.
  - A file whose name is not on storage is gone.

It is independent of what the programs mean by their bytes.
"""

from __future__ import annotations

import ctypes
import os
import stat
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uring import abi
from uring.kernel.ring import CQE

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator

    from uring.kernel.ring import KernelRing

__all__ = ["SECTOR", "Disk", "Event", "Recorder"]

SECTOR = 512

_WRITE, _FSYNC, _OPENAT = int(abi.IORING_OP_WRITE), int(abi.IORING_OP_FSYNC), int(abi.IORING_OP_OPENAT)
_FTRUNCATE, _RENAMEAT = int(abi.IORING_OP_FTRUNCATE), int(abi.IORING_OP_RENAMEAT)
_UNSEEN = {
    int(opcode)
    for opcode in (
        abi.IORING_OP_WRITEV, abi.IORING_OP_WRITE_FIXED, abi.IORING_OP_WRITEV_FIXED, abi.IORING_OP_FALLOCATE,
        abi.IORING_OP_UNLINKAT, abi.IORING_OP_LINKAT, abi.IORING_OP_SPLICE, abi.IORING_OP_OPENAT2,
        abi.IORING_OP_SYNC_FILE_RANGE,
    )
}  # fmt: skip
"""What the model does not know: a program that uses one is refused."""


@dataclass
class Event:
    """One request, by what it was asked and when: numbers of the record, -1 for not yet."""

    kind: str
    file: int = 0
    begun: int = 0
    done: int = -1
    offset: int = 0
    data: bytes = b""
    size: int = 0
    name: str = ""
    other: str = ""
    result: Any = None


@dataclass
class Recorder:
    """The record of a run in ``folder``; `open_ring` replaces the one of a run."""

    folder: Path
    events: list[Event] = field(default_factory=list)
    clock: int = 0
    _flying: dict[int, Event] = field(default_factory=dict)
    _names: dict[int, str] = field(default_factory=dict)  # of inodes
    _lives: Counter[int] = field(default_factory=Counter)  # how often an inode has been another file

    def watch(self, ring: KernelRing) -> KernelRing:
        ring.put = self._noting(ring.put)
        ring.put_now = self._noting(ring.put_now)
        ring.queue = self._noting_template(ring.queue)
        ring.queue_at = self._noting_at(ring.queue_at)
        ring.cycle = self._looking(ring, ring.cycle)
        ring.poll = self._looking(ring, ring.poll)
        return ring

    def tell(self, kind: str, result: Any) -> None:
        """What the program itself says, such as that something is acknowledged."""
        self.clock += 1
        self.events.append(Event(kind, begun=self.clock, done=self.clock, result=result))

    def _noting(self, put: Callable[..., int]) -> Callable[..., int]:
        def noted(user_data: int, opcode: int, flags: int, fd: int, off: int, *rest: int) -> int:
            with self._noted(user_data, self._event(opcode, fd, off, *rest[:2])) as taken:
                return taken(put(user_data, opcode, flags, fd, off, *rest))

        return noted

    def _noting_at(self, queue_at: Callable[..., int]) -> Callable[..., int]:
        def noted(template: Any, *fields: int) -> int:
            with self._noted(template.sqe.user_data, self._event(*fields)) as taken:
                return taken(queue_at(template, *fields))

        return noted

    def _noting_template(self, queue: Callable[[Any], int]) -> Callable[[Any], int]:
        def noted(template: Any) -> int:
            entry = template.sqe
            event = self._event(entry.opcode, entry.fd, entry.off, entry.addr, entry.len)
            with self._noted(entry.user_data, event) as taken:
                return taken(queue(template))

        return noted

    @contextmanager
    def _noted(self, user_data: int, event: Event | None) -> Iterator[Callable[[int], int]]:
        """Notes that an entry is queued, unless the queue is full: the result says so."""
        if event is not None:
            self.clock += 1
            event.begun = self.clock
            self._flying[user_data] = event
            self.events.append(event)

        def taken(result: int) -> int:
            if result < 0 and event is not None:
                self.events.remove(self._flying.pop(user_data))
            return result

        yield taken

    def _event(self, opcode: int, fd: int, off: int, addr: int, length: int) -> Event | None:
        assert opcode not in _UNSEEN, f"the model does not know operation {opcode}"
        if opcode == _WRITE:
            assert off < 1 << 63, "the model knows no writes at the position"
            return Event("write", self._file(fd), offset=off, data=ctypes.string_at(addr, length))
        if opcode == _FSYNC:
            folder = stat.S_ISDIR(os.fstat(fd).st_mode)
            return Event("sync folder" if folder else "sync", self._file(fd))
        if opcode == _FTRUNCATE:
            return Event("truncate", self._file(fd), size=off)
        if opcode == _OPENAT:
            return Event("open", name=self._name(addr))
        if opcode == _RENAMEAT:
            return Event("rename", name=self._name(addr), other=self._name(off))
        return None

    def _file(self, fd: int) -> int:
        """What tells a file from all others: an inode serves another one once its file is gone."""
        inode = os.fstat(fd).st_ino
        return self._lives[inode] << 64 | inode

    def _name(self, address: int) -> str:
        path = os.fsdecode(ctypes.string_at(address))
        return str(Path(path).relative_to(self.folder)) if path.startswith(f"{self.folder}/") else ""

    def _looking(self, ring: KernelRing, enter: Callable[..., int]) -> Callable[..., int]:
        def looked(*args: Any) -> int:
            n = enter(*args)
            for user_data, res, _ in CQE.iter_unpack(ring.out[: max(0, n) * CQE.size]):
                event = self._flying.pop(user_data, None)
                if event is not None:
                    self.clock += 1
                    event.done, event.result = self.clock, res
                    if event.kind == "open" and res >= 0:
                        inode = os.fstat(res).st_ino
                        self._lives[inode] += self._names.get(inode, event.name) != event.name
                        self._names[inode] = event.name
                        event.file = self._file(res)
                    elif event.kind == "rename" and res == 0:
                        renamed = [inode for inode, name in self._names.items() if name == event.name]
                        self._names |= dict.fromkeys(renamed[-1:], event.other)
            return n

        return looked


class Disk:
    """What the storage may hold when the power goes after a number of the record."""

    def __init__(self, events: list[Event], cut: int, folder: int, before: dict[str, bytes]) -> None:
        self._events = [event for event in events if event.begun <= cut]
        self._cut = cut
        self._folder = folder
        self._before = before

    def _kept(self, event: Event, by: str, file: int) -> bool:
        """Whether a sync had completed that was submitted after this had."""
        return event.done > 0 and any(
            each.kind == by and each.file == file and each.begun > event.done and 0 < each.done <= self._cut
            for each in self._events
            if each.result == 0
        )

    def state(self, pick: Callable[[Event], int], rng: random.Random) -> dict[str, bytes]:
        """Files by name. ``pick`` says of each thing that was not synced how much of it there is: 0 nothing,
        1 everything, 2 a part."""
        inodes: dict[int, bytearray] = {}
        names: dict[str, int] = {}
        known = {event.file: event.name for event in self._events if event.kind == "open" and event.file}
        by_name = {name: file for file, name in reversed(known.items())}
        for number, (name, content) in enumerate(self._before.items(), 1):
            file = names[name] = by_name.get(name, -number)  # which nobody has opened
            inodes[file] = bytearray(content)
        for event in self._events:
            if event.kind == "open" and event.name and 0 < event.done <= self._cut and event.result >= 0:
                new = event.file not in inodes
                inodes.setdefault(event.file, bytearray())
                if new and (self._kept(event, "sync folder", self._folder) or pick(event)):
                    names[event.name] = event.file
            elif event.kind == "rename":
                self._rename(event, names, known, pick)
            elif event.kind in ("write", "truncate"):
                kept = event.done <= self._cut and self._kept(event, "sync", event.file)
                how = 1 if kept else pick(event)
                change(inodes.setdefault(event.file, bytearray()), event, how, rng)
        return {name: bytes(inodes[file]) for name, file in names.items()}

    def _rename(
        self, event: Event, names: dict[str, int], known: dict[int, str], pick: Callable[[Event], int]
    ) -> None:
        if event.result not in (None, 0):
            return
        kept = event.done <= self._cut and self._kept(event, "sync folder", self._folder)
        if kept or pick(event):
            sources = [file for file, name in known.items() if name == event.name]
            names.pop(event.name, None)
            if sources:
                names[event.other] = sources[-1]


def change(content: bytearray, event: Event, how: int, rng: random.Random) -> None:
    """What a write or a truncation does to a file: nothing (0), all (1), a part (2)."""
    if not how:
        return
    if event.kind == "truncate":
        del content[event.size :]
        content.extend(bytes(event.size - len(content)))
        return
    data = event.data if event.result is None else event.data[: max(0, event.result)]
    end = event.offset + len(data)
    if end > len(content) and (how == 1 or rng.random() < 0.7):
        content.extend(bytes(end - len(content)))
    # Sectors are whole or as they were; where none of them arrived the file may still be longer.
    at = event.offset
    while at < min(end, len(content)):
        stop = min(end, (at // SECTOR + 1) * SECTOR, len(content))
        if how == 1 or rng.random() < 0.5:
            content[at:stop] = data[at - event.offset : stop - event.offset]
        at = stop
