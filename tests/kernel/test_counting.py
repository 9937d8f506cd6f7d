"""The shim's counts of what is in flight under each value, against a model."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from uring import Ring, ops

# Few values, so that they repeat; large ones, so that their places in the hash table collide.
values = st.one_of(
    st.integers(0, 5), st.integers(0, 200).map(lambda n: n << 40), st.integers(0, (1 << 62) - 1)
)
steps = st.lists(st.one_of(values, st.just(None)), max_size=300)


@given(steps)
@settings(max_examples=150, deadline=None)
def test_counts_are_those_of_a_model(steps: list[int | None]) -> None:
    with Ring(entries=64) as ring:
        model: Counter[int] = Counter()
        for step in steps:
            if step is None:
                for cqe in ring.wait(1000):
                    model[cqe.user_data] -= 1
                assert all(ring._kernel.count(value) == n for value, n in model.items())
            else:
                ring.submit(ops.nop(), step)
                model[step] += 1
                assert ring._kernel.count(step) == model[step]
        while sum(model.values()):
            for cqe in ring.wait(timeout=30.0):
                model[cqe.user_data] -= 1
        assert set(model.values()) <= {0}
        assert ring.in_flight == 0
        assert all(ring._kernel.count(value) == 0 for value in model)
        assert ring._held == {}
        assert ring._slots == {}


def test_many_values_at_once() -> None:
    with Ring(entries=1024, cq_entries=8192) as ring:
        numbers = [(n * 0x9E3779B97F4A7C15) % (1 << 62) for n in range(5000)]
        for number in numbers:
            ring.nop(number)
        assert all(ring._kernel.count(number) == 1 for number in numbers)
        seen = []
        while len(seen) < 5000:
            seen += [cqe.user_data for cqe in ring.wait(1000, timeout=30.0)]
        assert seen == numbers
        assert not any(ring._kernel.count(number) for number in numbers)
