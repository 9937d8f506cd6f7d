"""``python -m tools.strict_c``: all C of the project, by gcc and by clang, with every warning an error.

``--analyse`` has clang's analyser walk its paths instead. A compiler that is missing is named and left out;
one has to be there. Users' builds have none of these flags: another compiler may warn of something else,
which is no reason to fail there.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("src/uring/_shim", "src/uring_trio/seams", "tests/faults", "tests/sanitize")
COMPILERS = ("gcc", "clang")
WARNINGS = ("-Wall", "-Wextra", "-Werror")
ANALYSER = ("--analyze", "-Xclang", "-analyzer-output=text", "-Xclang", "-analyzer-werror")


def sources() -> list[str]:
    """All files with C, relative to the project.

    The headers of the shim are parts of `ring.c`. The text that cffi writes around it is left out.
    """
    paths = [path for folder in FOLDERS for path in (ROOT / folder).glob("*.c") if path.name != "_ffi.c"]
    return sorted(str(path.relative_to(ROOT)) for path in paths)


def complaints(compiler: str, how: tuple[str, ...], source: str, folder: str) -> str:
    """A compiler's complaints about a file; "" if it has none."""
    output = str(Path(folder, f"{compiler}-{Path(source).name}.o"))
    command = [compiler, *how, "-c", "-O2", "-fPIC", "-fvisibility=hidden", "-o", output, source]
    command += [f"-I{sysconfig.get_path('include')}", "-D_GNU_SOURCE=", "-DPy_LIMITED_API=0x030b0000"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return ran.stdout + ran.stderr if ran.returncode or ran.stderr.strip() else ""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.strict_c", description=__doc__)
    parser.add_argument("--analyse", action="store_true", help="by clang's analyser")
    options = parser.parse_args()
    wanted = ("clang",) if options.analyse else COMPILERS
    there = [name for name in wanted if shutil.which(name)]
    for name in set(wanted) - set(there):
        print(f"strict_c: {name} is not installed (Debian, Ubuntu: apt-get install {name}), and is left out")
    if not there:
        return 0 if options.analyse else 1
    how = ANALYSER if options.analyse else WARNINGS
    workers = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(workers) as pool:
        work = [(name, how, source, folder) for name in there for source in sources()]
        said = [text for text in pool.map(lambda each: complaints(*each), work) if text]
    print("".join(said), end="")
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main())
