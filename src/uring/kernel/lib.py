"""The C shim as Python sees it: ``ffi`` and ``lib``, or None for both where it cannot run."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

_refused = ""

if TYPE_CHECKING:
    ffi: Any
    lib: Any
else:
    try:
        import uring._cached  # noqa: F401 - without it a ring would open, and the first read of a file fail
        from uring._ffi import ffi, lib
    except ImportError as error:  # not Linux, or not built: importing stays possible, opening a ring does not
        ffi = lib = None
        _refused = str(error)
    else:
        if not getattr(sys, "_is_gil_enabled", lambda: True)():
            ffi = lib = None  # rings, operations and ticks in C are guarded by the GIL alone

__all__ = ["NOT_BUILT", "ffi", "lib"]

_FREE_THREADED = "t" in getattr(sys, "abiflags", "") or not getattr(sys, "_is_gil_enabled", lambda: True)()

NOT_BUILT = (
    f"io_uring is a part of Linux; this is {sys.platform}"
    if sys.platform != "linux"
    else "this is a free-threaded Python, without the GIL that guards a ring: use a CPython with the GIL; "
    "there each thread may have a run with a ring of its own"
    if _FREE_THREADED
    else "a ring takes the main interpreter of a process, and this is a subinterpreter: use another process, "
    "or a thread of the main interpreter"
    if "interpreter" in _refused
    else "the C extensions uring._ffi and uring._cached are missing, or one of them: install the package "
    "again, with a C compiler and the headers of Python present"
)
"""Why there is no ``lib``."""
