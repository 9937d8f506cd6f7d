"""The model of a disk that forgets, and the programs that hold on it; those that sync too little do not."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

import uring_trio
from examples import store

from . import cuts
from .cuts import PROGRAMS, Unsafe, examine, play
from .disk import Event, change

if TYPE_CHECKING:
    from pathlib import Path

SEEDS = range(6)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", PROGRAMS)
def test_what_was_acknowledged_is_there_after_a_cut_at_any_step(name: str, seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    program, check = PROGRAMS[name]
    record = play(program, tmp_path, rng)
    states, _ = examine(record, {}, check, rng, 6)
    assert states == 8 * (record.clock + 1)
    assert [event for event in record.events if event.kind == "acknowledged"]


def fails(name: str, folder: Path) -> None:
    program, check = PROGRAMS[name]
    for seed in SEEDS:
        where = folder / str(seed)
        where.mkdir()
        rng = random.Random(seed)
        examine(play(program, where, rng), {}, check, rng, 6)


async def acknowledges(self: Any, *args: Any, **kwargs: Any) -> None:
    """In the place of a sync."""


def test_a_store_that_does_not_sync_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uring_trio.RawFile, "fsync", acknowledges)
    with pytest.raises(Unsafe, match="acknowledged are gone"):
        fails("store", tmp_path)


def test_a_store_whose_name_is_not_synced_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store.uring_trio, "perform", acknowledges)
    with pytest.raises(Unsafe, match="acknowledged are gone"):
        fails("store", tmp_path)


def test_a_store_without_checksums_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "checksum", lambda record: 7)
    with pytest.raises(Unsafe, match="nobody has written"):
        fails("store", tmp_path)


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_replaced_file_that_is_not_synced_is_found(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if what == "file":
        monkeypatch.setattr(uring_trio.RawFile, "fsync", acknowledges)
    else:
        monkeypatch.setattr(cuts, "sync_folder", acknowledges)
    with pytest.raises(Unsafe):
        fails("replaced file", tmp_path)


def test_sectors_are_whole_or_as_they_were() -> None:
    rng = random.Random(1)
    old, new = bytes(b"o" * 2048), bytes(b"n" * 2048)
    seen = set()
    for _ in range(200):
        content = bytearray(old)
        change(content, Event("write", data=new, result=2048), 2, rng)
        sectors = [bytes(content[at : at + 512]) for at in range(0, 2048, 512)]
        assert set(sectors) <= {old[:512], new[:512]}
        seen.add(bytes(content))
    assert len(seen) == 16
