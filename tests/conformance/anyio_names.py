"""AnyIO's test-suite on the backend ``uring`` in place of ``trio``."""

import re
from typing import Any

import pytest


class Entered(str):
    """The name by which a run on this backend is entered, where the library inside says ``trio``.

    AnyIO's tests have one name for both, so this one equals both.
    """

    def __eq__(self, other: object) -> bool:
        return other == "trio" or str.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__


NAME = Entered("uring")


def use_backend() -> None:
    """Puts the backend in the place of Trio among those AnyIO's tests run on, before they are imported."""
    from anyio._core import _eventloop

    import uring_trio.anyio

    assert _eventloop.loaded_backends[NAME] is uring_trio.anyio.UringBackend
    _eventloop.BACKENDS = ("asyncio", NAME)


def as_on_trio(nodeid: str) -> str:
    """The id of the same test on AnyIO's backend ``trio``."""
    test, bracket, parameters = nodeid.partition("[")
    return test + bracket + re.sub(r"\buring\b", "trio", parameters)


def is_on_trio(item: pytest.Item) -> bool:
    """Whether a test is on Trio or on no backend in particular; asyncio says nothing about the ring."""
    callspec: Any = getattr(item, "callspec", None)
    chosen = {} if callspec is None else callspec.params
    return chosen.get("anyio_backend", chosen.get("anyio_backend_name", "trio")) in ("trio", NAME)
