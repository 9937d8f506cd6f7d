"""Builds the cffi extension ``uring._ffi`` (stable ABI: one wheel for CPython 3.11 and later).

Elsewhere than on Linux there is no io_uring to talk to: the packages install and import without it.
"""

import sys

from setuptools import setup

setup(
    cffi_modules=["src/uring/_shim/build.py:ffibuilder"] if sys.platform == "linux" else [],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
