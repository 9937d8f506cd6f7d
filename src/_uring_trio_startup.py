"""The part of the package that is imported before Trio: by interpreters that start with ``URING_TRIO`` set,
and by pytest. It imports the standard library alone, whatever Trio is installed.

``uring_trio.pth``, which is installed beside this module, calls `watch` where the variable is set. A process
without it pays for one look at its environment. A process with it that never uses Trio imports nothing of the
package but this. `uring_trio.launch.environment` reads the settings in the variable.

PYTEST_DONT_REWRITE: pytest would warn that the module is imported already.
"""

from __future__ import annotations

import importlib
import os
import sys
import types
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec

__all__ = ["announce_backend", "is_watching", "watch", "when_imported"]

_NAME = "URING_TRIO"
_watching = False


def watch() -> None:
    """Makes `uring_trio` follow the variable when the program imports Trio, and lets AnyIO find the backend
    ``uring``. Does nothing where the variable is unset, empty or ``0``."""
    global _watching
    if _watching or os.environ.get(_NAME, "").strip() in ("", "0"):
        return
    _watching = True
    announce_backend()
    # At the end of its import it does what the variable says; it may be what imports Trio.
    when_imported("trio", partial(importlib.import_module, "uring_trio"))


def is_watching() -> bool:
    """Whether this interpreter follows the variable."""
    return _watching


def announce_backend() -> None:
    """Makes AnyIO find the backend ``uring``; `uring_trio` is imported when AnyIO asks for it. Idempotent.

    AnyIO imports what is not in its table of backends from a package of its own, by name.
    """
    name = "anyio._backends._uring"
    sys.modules.setdefault(name, _Announced(name))


def when_imported(name: str, then: Callable[[], object]) -> Callable[[], None]:
    """Calls ``then`` when the module ``name`` has been imported, now if it is. Returns what takes that back.

    Finders that come before the ones of this moment are not seen: pytest's, for packages with a plugin.
    """
    finder = _Finder(name, then)
    if name in sys.modules:
        then()
    else:
        sys.meta_path.insert(0, finder)
    return finder.remove


class _Announced(types.ModuleType):
    """Stands for a backend module among AnyIO's own."""

    def __getattr__(self, name: str) -> Any:
        if name != "backend_class":
            raise AttributeError(name)
        return importlib.import_module("uring_trio.anyio").backend_class


class _Finder:
    """Finds a module as the other finders do, to be told when it has been imported."""

    def __init__(self, name: str, then: Callable[[], object]) -> None:
        self._name, self._then = name, then

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != self._name:
            return None
        for finder in sys.meta_path:
            if finder is not self and (spec := finder.find_spec(name, path, target)) is not None:
                loader: Any = spec.loader
                loader.exec_module = partial(self._execute, loader, loader.exec_module)
                return spec
        return None

    def remove(self) -> None:
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def _execute(self, loader: Any, execute: Any, module: types.ModuleType) -> None:
        del loader.exec_module
        execute(module)
        if self in sys.meta_path:
            self.remove()
            self._then()
