"""Options: what is refused, and the documented arithmetic of budgets."""

import dataclasses
import itertools
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uring import (
    BUFFER_SIZES,
    LARGE_LOCKED_BUFFER_MEM,
    BufferGroupsConfig,
    Options,
    abi,
    buffer_config_for_budget,
    options_for_budget,
    options_for_system,
)
from uring.options import BUDGET_LEAST, BUDGET_MOST, ENTRY_OVERHEAD, locked_buffer_layout

MIB = abi.MIB
GIB = abi.GIB


def test_tier_sizes() -> None:
    assert BUFFER_SIZES[0] == abi.BUFFER_SIZE_PICO == 32
    assert BUFFER_SIZES[-1] == abi.BUFFER_SIZE_TITAN == 128 * MIB
    assert all(b == 4 * a for a, b in itertools.pairwise(BUFFER_SIZES))


@pytest.mark.parametrize(
    ("make", "tiers", "total"),
    [
        (BufferGroupsConfig.minimal, 5, 31 * MIB),
        (BufferGroupsConfig.default, 7, 127 * MIB),
        (BufferGroupsConfig.full, 12, 4095 * MIB),
    ],
)
def test_configurations_have_their_documented_totals(
    make: Callable[[], BufferGroupsConfig], tiers: int, total: int
) -> None:
    config = make()
    assert len(config.tiers) == tiers
    assert config.total == total
    assert config.total == sum(size * count for size, count in config.tiers)
    # Each tier takes twice what the one before takes, from 1 MiB on.
    assert [size * count for size, count in config.tiers] == [MIB << i for i in range(tiers)]


def test_default_counts_are_those_of_the_constants() -> None:
    full = BufferGroupsConfig.full()
    for name in (
        "pico",
        "nano",
        "micro",
        "small",
        "medium",
        "big",
        "large",
        "great",
        "huge",
        "vast",
        "giant",
        "titan",
    ):
        assert getattr(full, f"{name}_num") == getattr(abi, f"DEFAULT_BUFFER_NUM_{name.upper()}")


def test_a_tier_of_each_size() -> None:
    config = BufferGroupsConfig(
        pico_num=1,
        nano_num=2,
        micro_num=3,
        small_num=4,
        medium_num=5,
        big_num=6,
        large_num=7,
        great_num=8,
        huge_num=9,
        vast_num=10,
        giant_num=11,
        titan_num=12,
    )
    assert config.tiers == list(zip(BUFFER_SIZES, range(1, 13), strict=True))


def test_a_large_amount_of_registered_memory() -> None:
    assert LARGE_LOCKED_BUFFER_MEM == 128 * MIB
    options = Options(locked_buffer_mem=LARGE_LOCKED_BUFFER_MEM)
    size, count = locked_buffer_layout(options.locked_buffer_mem)
    assert size * count == LARGE_LOCKED_BUFFER_MEM


@given(st.integers(-1, 1 << 40))
def test_a_budget_is_kept(budget: int) -> None:
    options = options_for_budget(budget)
    clamped = min(max(budget, BUDGET_LEAST), BUDGET_MOST)
    assert options.locked_buffer_mem == max(clamped // 4, 8 * MIB)
    config, scale = buffer_config_for_budget(budget)
    assert (options.buffer_groups, options.multi_size_buffer) == (config, scale)
    spent = options.locked_buffer_mem + options.entries * ENTRY_OVERHEAD + config.total * scale
    assert scale >= 1
    assert spent <= clamped
    assert clamped - spent < config.total + MIB, "no more is left than the groups take once"


def test_more_budget_never_makes_less() -> None:
    before = options_for_budget(BUDGET_LEAST)
    for power in range(24, 38):
        options = options_for_budget(1 << power)
        assert options.entries >= before.entries
        assert options.locked_buffer_mem >= before.locked_buffer_mem
        before = options
    assert before == options_for_budget(1 << 50)


def test_a_system_gets_a_quarter() -> None:
    assert options_for_system(abi.MACHINE_MEMORY_4GB) == options_for_budget(GIB)
    assert options_for_budget(256 * MIB).buffer_groups == BufferGroupsConfig.default()


@given(st.integers(4096, 1 << 36))
def test_locked_memory_fits_the_table(memory: int) -> None:
    size, count = locked_buffer_layout(memory)
    assert count <= 16384
    assert size % 4096 == 0
    assert memory - size < size * count <= memory


@pytest.mark.parametrize(
    "change",
    [
        {"entries": 0},
        {"entries": 32769},
        {"entries": -1},
        {"cq_entries": 65537},
        {"cq_entries": 4, "entries": 8},
        {"read_buffer_num": 32769},
        {"read_buffer_size": 0},
        {"read_buffer_gid_offset": 65536},
        {"multi_size_buffer": -1},
        {"locked_buffer_mem": -1},
        {"cqe32": True, "cqe_mixed": True},
        {"hybrid_polling": True},
        {"registered_fd": True},
        {"sq_thread_idle": 5},
        {"sq_thread_cpu": 0},
        {"drain_timeout": -1},
        {"drain_timeout": float("nan")},
        {"read_buffer_num": 4, "multi_size_buffer": 1},
        {"registered_fd": True, "no_mmap": True, "multi_issuers": True},
    ],
)
def test_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        Options(**change)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["entries", "cq_entries", "locked_buffer_mem", "drain_timeout"])
@pytest.mark.parametrize("value", ["1", None, True, b""])
def test_refused_types(name: str, value: object) -> None:
    with pytest.raises(TypeError, match=name):
        Options(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [-1, 32769])
def test_refused_counts(value: int) -> None:
    with pytest.raises(ValueError, match="pico_num"):
        BufferGroupsConfig(pico_num=value)


def test_options_do_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Options().entries = 3  # type: ignore[misc]


def test_set_up_flags() -> None:
    base = Options().setup_flags
    assert base & abi.IORING_SETUP_SINGLE_ISSUER
    assert base & abi.IORING_SETUP_DEFER_TASKRUN
    assert base & abi.IORING_SETUP_NO_SQARRAY
    assert base & abi.IORING_SETUP_R_DISABLED
    shared = Options(multi_issuers=True).setup_flags
    assert shared & abi.IORING_SETUP_COOP_TASKRUN
    assert not shared & abi.IORING_SETUP_SINGLE_ISSUER
    polled = Options(sqpoll=True, sq_thread_cpu=0).setup_flags
    assert polled & abi.IORING_SETUP_SQPOLL
    assert polled & abi.IORING_SETUP_SQ_AFF
    assert not polled & abi.IORING_SETUP_DEFER_TASKRUN
    assert not Options(indirect_submission_queue=True).setup_flags & abi.IORING_SETUP_NO_SQARRAY
