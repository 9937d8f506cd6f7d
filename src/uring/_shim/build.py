"""cffi build script of ``uring._ffi``: ``ring.h`` and ``cached.h`` are what Python sees, the C files next to
them how it works.

They are read as text; nothing here needs kernel headers or liburing.
"""

from pathlib import Path

from cffi import FFI

here = Path(__file__).parent

ffibuilder = FFI()
for header in ("ring.h", "cached.h"):
    ffibuilder.cdef((here / header).read_text())
ffibuilder.set_source(
    "uring._ffi",
    '#include "ring.c"\n#include "cached.c"',
    include_dirs=[str(here)],
    extra_compile_args=["-O2", "-fvisibility=hidden", "-Wall", "-Wno-unused-function"],
    py_limited_api=True,
)
