"""A package's public names, each loaded from its module at its first use.

So an import costs only the parts that a program uses. Type checkers do not run this: they read the imports
that the package has for them, and a test compares the two.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["names_on_demand"]


def names_on_demand(
    package: str, homes: Mapping[str, str], modules: str = ""
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` of a package.

    Args:
        homes: the modules below the package, each with its public names, separated by spaces. Modules are
            found by their own names too.
        modules: those that programs use, for ``dir``, which leaves out the others and what is imported here.
    """
    home_of = {name: module for module, names in homes.items() for name in names.split()}

    def find(name: str) -> Any:
        home = home_of.get(name)
        if home:
            value = getattr(importlib.import_module(f"{package}.{home}"), name)
            sys.modules[package].__dict__[name] = value
            return value
        path = f"{package}.{name}"
        if not name.startswith("_"):
            try:
                return importlib.import_module(path)
            except ModuleNotFoundError as error:
                if error.name != path:
                    raise
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    def names() -> list[str]:
        here = sys.modules[package]
        hidden = (name for name in vars(here) if name.startswith("__"))
        return sorted({*hidden, *here.__all__, *modules.split()})

    return find, names
