"""What an interpreter does at its start where ``URING_TRIO`` is set: it waits for the program to import Trio.

``uring_trio.pth``, which is installed beside this module, imports it then and only then: a process without
the variable pays for one look at its environment. A process with it that never imports Trio imports nothing
of ours but this. `uring_trio.environment` knows what the variable may say.
"""

from __future__ import annotations

import importlib
import os
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import types
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec

__all__: list[str] = []

_AWAITED = ("trio", "uring_trio")


class _Finder:
    """Finds Trio and us as the other finders do, to be told when they have been imported."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in _AWAITED:
            return None
        for finder in sys.meta_path:
            if finder is not self and (spec := finder.find_spec(name, path, target)) is not None:
                loader: Any = spec.loader
                loader.exec_module = partial(self._execute, loader, loader.exec_module)
                return spec
        return None

    def _execute(self, loader: Any, execute: Any, module: types.ModuleType) -> None:
        del loader.exec_module
        execute(module)
        if module.__name__ == "trio":
            # Unless it is the one that imports Trio: it comes here at its own end then.
            if "uring_trio" not in sys.modules:
                importlib.import_module("uring_trio")
        elif self in sys.meta_path:
            sys.meta_path.remove(self)
            importlib.import_module("uring_trio.environment").follow(os.environ)


if not any(name in sys.modules for name in _AWAITED):
    sys.meta_path.insert(0, _Finder())
