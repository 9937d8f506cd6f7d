"""The interpreter of the environment of `make sanitize`, and the reports of what ran on it.

``python -m tests.sanitize.interpreter``, in that environment, puts `launcher.c` in the place of its
``python``.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

HERE = Path(__file__).parent
REPORTS = Path(sys.prefix) / "reports"
NAMED = "named"
"""A file beside the reports: lines of a report's name and the test after which it came."""

SANITIZERS = ("-fsanitize=address,undefined", "-fno-omit-frame-pointer", "-g")
LEAK = re.compile(r"^(?:Direct|Indirect) leak of .*?(?=^\S|\Z)", re.MULTILINE | re.DOTALL)
REFUSED = re.compile(r"^==\d+==WARNING: AddressSanitizer failed to allocate 0x\w+ bytes\s*", re.MULTILINE)
"""An allocation of a size that no memory could hold: some tests ask for it, and get a MemoryError."""

ERROR = re.compile(r"ERROR: AddressSanitizer|runtime error:")
OURS = re.compile(
    r"uring/_shim/|uring_trio/seams/_|/_requests\.|/_ffi\.|/_cached\.|/_ticks\.|uring\._ffi\.c|tests/sanitize/"
)
"""Frames of the extensions. CPython leaves objects behind at its end, and is built without frame pointers,
so that its stacks end early: a leak counts where one of these frames has allocated it. References that
are lost are found by `tests.sanitize.references`."""


def build() -> None:
    """Compiles the launcher into ``bin/python``, which was a link."""
    value = sysconfig.get_config_var
    shared = value("Py_ENABLE_SHARED")
    archive = ["-Wl,--whole-archive", f"{value('LIBPL')}/{value('LIBRARY')}", "-Wl,--no-whole-archive"]
    library = [f"-L{value('LIBDIR')}", f"-Wl,-rpath,{value('LIBDIR')}", f"-lpython{value('LDVERSION')}"]
    further = [
        word for name in ("LIBS", "SYSLIBS", "LINKFORSHARED") for word in shlex.split(value(name) or "")
    ]
    REPORTS.mkdir(exist_ok=True)
    made = Path(sys.prefix, "bin", "sanitized")
    command = [os.environ.get("CC", "gcc"), *SANITIZERS, f'-DREPORTS="{REPORTS}"', str(HERE / "launcher.c")]
    command += [
        f"-I{sysconfig.get_path('include')}",
        "-o",
        str(made),
        *(library if shared else archive),
        *further,
    ]
    subprocess.run(command, check=True)
    made.replace(made.with_name("python"))


def take_reports(folder: Path = REPORTS) -> list[str]:
    """What the sanitizers said since the last time, without the leaks of others."""
    found = []
    named, tests = folder / NAMED, {}
    if named.exists():
        tests = dict(line.split(" ", 1) for line in named.read_text().splitlines())
        named.unlink()
    for path in sorted(folder.iterdir()):
        after = f"after {tests[path.name]}:\n" if path.name in tests else ""
        text = REFUSED.sub("", path.read_text(errors="replace"))
        path.unlink()
        if not text:
            continue
        if "LeakSanitizer has encountered a fatal error" in text and not ERROR.search(text):
            continue  # it could not look at a process that was on its way out
        if "detected memory leaks" not in text:
            found.append(after + text)
        else:
            found += [after + leak for leak in LEAK.findall(text) if OURS.search(leak)]
    return found


if __name__ == "__main__":
    build()
