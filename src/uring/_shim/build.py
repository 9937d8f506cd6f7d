"""cffi build script of ``uring._ffi``: ``ring.h`` is its interface, ``ring.c`` its code.

Both are read as text, and need neither kernel headers nor liburing.
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
