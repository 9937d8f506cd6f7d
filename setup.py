"""Builds the extensions on the stable ABI: one wheel for CPython 3.11 and later where 3.11 builds it, for
3.12 and later where a later one does. ``uring._ffi`` is made by cffi; ``uring._cached``, ``uring._requests``
and ``uring_trio.seams._ticks`` are written by hand. Puts ``uring_trio.pth`` beside the packages: it lets an
interpreter follow ``URING_TRIO`` at its start.

Where the compiler fails and tools/preflight.py knows what is missing, the build ends with that sentence.

A free-threaded Python is refused.

Elsewhere than on Linux there is no io_uring to talk to: the packages install and import without it.
"""

import runpy
import sys
import sysconfig
from pathlib import Path
from zipfile import ZipFile

if sysconfig.get_config_var("Py_GIL_DISABLED"):
    sys.exit(
        "uring-trio: this is a free-threaded Python, without the GIL that guards a ring: "
        "use a CPython with the GIL"
    )

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.command.editable_wheel import editable_wheel

STARTUP = Path("src", "uring_trio.pth")


class BuildWithStartup(build_py):
    def run(self):
        super().run()
        if not self.editable_mode:
            self.copy_file(str(STARTUP), str(Path(self.build_lib, STARTUP.name)))

    def get_outputs(self, include_bytecode=True):
        return [*super().get_outputs(include_bytecode), str(Path(self.build_lib, STARTUP.name))]


class EditableWithStartup(editable_wheel):
    def run(self):
        super().run()
        (wheel,) = Path(self.dist_dir).glob("*.whl")
        with ZipFile(wheel, "a") as archive:
            archive.write(STARTUP, STARTUP.name)


class BuildOrExplain(build_ext):
    def run(self):
        try:
            super().run()
        except Exception as failure:
            preflight = Path(__file__).parent / "tools" / "preflight.py"
            missing = runpy.run_path(str(preflight))["cannot_compile"]() if preflight.exists() else None
            if missing:
                raise SystemExit(f"uring-trio: {missing}") from failure
            raise


# Headers of CPython 3.12 and later return None without a reference to it, because it is immortal there. An
# extension built by them would take 3.11's last reference sooner or later, whatever stable ABI it names.
OLDEST = "cp311" if sys.version_info < (3, 12) else "cp312"

on_linux = sys.platform == "linux"
EXTENSIONS = {
    "uring._cached": ["src/uring/_shim/cached.c"],
    "uring._requests": sorted(map(str, Path("src/uring/_shim").glob("requests_*.c"))),
    "uring_trio.seams._ticks": sorted(map(str, Path("src/uring_trio/seams").glob("_*.c"))),
}
extensions = [
    Extension(
        name,
        sources,
        depends=[*map(str, Path("src").glob("**/*.h"))],
        define_macros=[("Py_LIMITED_API", "0x030b0000"), ("_GNU_SOURCE", "1")],
        extra_compile_args=["-O2", "-fvisibility=hidden", "-Wall", "-Werror=implicit-function-declaration"],
        py_limited_api=True,
    )
    for name, sources in EXTENSIONS.items()
]

setup(
    ext_modules=extensions if on_linux else [],
    cffi_modules=["src/uring/_shim/build.py:ffibuilder"] if on_linux else [],
    cmdclass={
        "build_ext": BuildOrExplain,
        "build_py": BuildWithStartup,
        "editable_wheel": EditableWithStartup,
    },
    options={"bdist_wheel": {"py_limited_api": OLDEST}},
)
