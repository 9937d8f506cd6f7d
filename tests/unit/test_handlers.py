"""Handlers made of functions: each is called with what its method gets, and what is missing does nothing."""

from __future__ import annotations

import pytest

from uring import (
    CQEView,
    IncrementalHandler,
    ListenerHandler,
    MultishotAction,
    MultishotHandler,
    MultishotStep,
    ZCHandler,
    ZCRXBuffer,
    ZCRXHandler,
)

called: list[tuple[object, ...]] = []
STEP = MultishotStep(CQEView((0, 1, 0)), None, False)
FAILED = MultishotStep(CQEView((0, -5, 0)), OSError(5, "failed"), False)


@pytest.fixture(autouse=True)
def nothing_called() -> None:
    called.clear()


def note(*what: object) -> bool:
    called.append(what)
    return False


def test_multishot() -> None:
    handler = MultishotHandler.from_callbacks(
        on_step=lambda step: note(step) or MultishotAction.STOP, on_stop=lambda *what: note(*what) or None
    )
    assert handler.on_multishot_step(STEP) is MultishotAction.STOP
    handler.on_multishot_stop(None, True)
    assert called == [(STEP,), (None, True)]
    for plain in (MultishotHandler(), MultishotHandler.from_callbacks()):
        assert plain.on_multishot_step(STEP) is MultishotAction.CONTINUE
        assert plain.on_multishot_step(FAILED) is MultishotAction.STOP
        plain.on_multishot_stop(None, False)
    assert (STEP.final, STEP.has_more) == (True, False)


def test_listener() -> None:
    handler = ListenerHandler.from_callbacks(
        on_socket_created=note,
        on_bound=note,
        on_listening=lambda: note() or None,
        on_error=lambda *what: note(*what) or None,
    )
    error = OSError(98, "in use")
    assert not handler.on_socket_created(5)
    assert not handler.on_bound()
    handler.on_listening()
    handler.on_error(45, error)
    assert called == [(5,), (), (), (45, error)]
    for plain in (ListenerHandler(), ListenerHandler.from_callbacks()):
        assert plain.on_socket_created(5)
        assert plain.on_bound()
        plain.on_listening()
        plain.on_error(45, error)


def test_incremental() -> None:
    handler = IncrementalHandler.from_callbacks(
        on_data=lambda *what: note(*what) or None,
        on_complete=lambda: note() or None,
        on_error=lambda error: note(error) or None,
    )
    data, error = memoryview(b"x"), OSError(104, "reset")
    handler.on_data(data, True)
    handler.on_complete()
    handler.on_error(error)
    assert called == [(data, True), (), (error,)]
    for plain in (IncrementalHandler(), IncrementalHandler.from_callbacks()):
        plain.on_data(data, False)
        plain.on_complete()
        plain.on_error(error)


def test_zero_copy() -> None:
    handler = ZCHandler.from_callbacks(
        on_completed=lambda result: note(result) or None,
        on_notification=lambda result: note("free", result) or None,
    )
    handler.on_completed(10)
    handler.on_notification(10)
    assert called == [(10,), ("free", 10)]
    for plain in (ZCHandler(), ZCHandler.from_callbacks()):
        plain.on_completed(10)
        plain.on_notification(10)


def test_zero_copy_receive() -> None:
    handler = ZCRXHandler.from_callbacks(on_data=note, on_error=note, on_stopped=lambda: note() or None)
    buffer, error = ZCRXBuffer(memoryview(b"x"), None, 0), OSError(5, "failed")
    assert not handler.on_data(buffer)
    assert not handler.on_error(error)
    handler.on_stopped()
    assert called == [(buffer,), (error,), ()]
    for plain in (ZCRXHandler(), ZCRXHandler.from_callbacks()):
        buffer = ZCRXBuffer(memoryview(b"x"), None, 0)
        assert plain.on_data(buffer)
        assert buffer.released
        assert not plain.on_error(error)
        plain.on_stopped()
