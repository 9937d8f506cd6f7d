"""What an interpreter does at its start where ``URING_TRIO`` is set: it waits for the program to import Trio.

``uring_trio.pth``, which is installed beside this module, imports it then and only then: a process without
the variable pays for one look at its environment. A process with it that never imports Trio imports nothing
of ours but this. `uring_trio.launch.environment` knows what the variable may say.

PYTEST_DONT_REWRITE: pytest would warn that it comes too late to.
"""

from __future__ import annotations

import importlib
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import types
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec

__all__: list[str] = []


class _Finder:
    """Finds Trio as the other finders do, to be told when it has been imported."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != "trio":
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
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        # At its end it does what the variable says; it may be what imports Trio.
        importlib.import_module("uring_trio")


if "trio" not in sys.modules:
    sys.meta_path.insert(0, _Finder())
