"""The seeds that belong to every run of the tests; ``python -m tests.differential`` has more.

``DIFFERENTIAL_PROGRAMS`` is how many there are.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from .comparing import Pair
from .programs import generate

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAMS = int(os.environ.get("DIFFERENTIAL_PROGRAMS", "200"))
AT_ONCE = 20
FOUND = (
    2781, 5541, 7124, 20230, 22630, 60335, 61138, 63834, 67851, 69104, 69262, 82033, 82220, 82484, 88043,
    91998, 95114, 208649, 218145,
)  # fmt: skip
"""Seeds that differed once."""

pytestmark = [pytest.mark.ring, pytest.mark.timeout(600)]


@pytest.fixture
def pair() -> Iterator[Pair]:
    with Pair() as pair:
        yield pair


@pytest.mark.parametrize("first", range(0, PROGRAMS, AT_ONCE))
def test_programs_see_the_same_on_the_ring(pair: Pair, first: int) -> None:
    for seed in range(first, first + AT_ONCE):
        check(pair, seed)


@pytest.mark.parametrize("seed", FOUND)
def test_what_differed_once(pair: Pair, seed: int) -> None:
    check(pair, seed)


def check(pair: Pair, seed: int) -> None:
    difference = pair.compare(generate(seed))
    if difference is not None:
        pytest.fail(f"python -m tests.differential --seed {seed}\n{pair.shrink(difference)}", pytrace=False)
