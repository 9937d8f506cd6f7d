"""cffi build script of ``uring._ffi``: ``ring.h`` is what Python sees, ``ring.c`` next to it how it works.

They are read as text; nothing here needs kernel headers or liburing.
"""

from pathlib import Path

from cffi import FFI

here = Path(__file__).parent

ffibuilder = FFI()
ffibuilder.cdef((here / "ring.h").read_text())
ffibuilder.set_source(
    "uring._ffi",
    '#include "ring.c"',
    include_dirs=[str(here)],
    extra_compile_args=["-O2", "-fvisibility=hidden", "-Wall", "-Wno-unused-function"],
    py_limited_api=True,
)
