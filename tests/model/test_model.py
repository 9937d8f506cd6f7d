"""Every state of small worlds keeps the promises, and the search finds the mistakes that are planted here."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

import pytest

from uring_trio.core.cancels import Cancels
from uring_trio.core.engine import Engine
from uring_trio.core.operation import Operation
from uring_trio.multishot.subscription import Subscription

from .search import explore
from .worlds import SMALL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


@pytest.mark.parametrize("name", SMALL)
def test_every_state_keeps_the_promises(name: str, record_property: Callable[[str, object], None]) -> None:
    found = explore(SMALL[name]())
    record_property("states", found.states)
    assert found.states > 100
    assert found.ends


def test_the_program_says_how_many_states(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    from tests.model import __main__ as program

    monkeypatch.setattr("sys.argv", ["tests.model", "--small"])
    monkeypatch.setattr(program, "SMALL", {"one call": SMALL["one call"]})
    assert program.main() == 0
    assert "one call: 132 states" in capsys.readouterr().out


# ---- planted mistakes ------------------------------------------------------------------------------------


def send_to_whatever_is_there(self: Cancels) -> None:
    """The check that a request's use goes on is left out."""
    while self.waiting:
        target, _, _ = self.waiting[0]
        if self._ring.put(self.user_data, 14, 0, -1, 0, target, 0, 0, 0, 0, 0) < 0:
            return
        self._asked.append(self.waiting.pop(0))


def forget_what_found_nothing(self: Cancels, op: Operation, res: int, flags: int) -> None:
    self._asked.popleft()


def end_without_taking_back(self: Cancels, ops: Iterable[Operation]) -> None:
    """So that the entry of a closed descriptor reaches the kernel."""
    for op in ops:
        self.waiting.append((op.user_data, op.interrupt, 16))
    self.send()
    self._ring.flush(1)


def release_on_cancel(self: Operation, raise_cancel: Callable[[], Any]) -> Any:
    self.interrupt = raise_cancel
    self.engine.cancels.cancel(self)
    self.engine.table.release(self)  # type: ignore[attr-defined]


def release_twice(self: Engine, op: Operation) -> None:
    self.table.release(op)
    self.table.free.append(op)


def let_the_cancel_win(self: Operation) -> Any:
    self.res = -errno.ECANCELED
    return settle(self)


def wake_nobody(self: Subscription) -> None:
    pass


settle = Operation.settle

ONE, TWICE, TWO, MULTISHOT = SMALL


@pytest.mark.parametrize(
    ("name", "kind", "method", "mistake", "found"),
    [
        (TWO, Cancels, "send", send_to_whatever_is_there, "that nobody asked to cancel"),
        (ONE, Cancels, "answered", forget_what_found_nothing, "a request to cancel got lost"),
        (TWO, Cancels, "end", end_without_taking_back, "by the table TAKEN_BACK"),
        (ONE, Operation, "abort", release_on_cancel, "a slot was given back"),
        (ONE, Engine, "release", release_twice, "a slot was given back twice"),
        (ONE, Operation, "settle", let_the_cancel_win, "a result was lost"),
        (MULTISHOT, Subscription, "_wake", wake_nobody, "none will come|nothing will wake it"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_mistake_is_found(
    name: str, kind: type, method: str, mistake: object, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kind, method, mistake)
    with pytest.raises(AssertionError, match=found) as caught:
        explore(SMALL[name]())
    assert "the way there" in "".join(caught.value.__notes__)
