"""The Python of the pages runs: each block is a whole program, or included from an example that has tests.

A block of text under a program is what it prints. A program with tests in it is run by pytest.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tools.pages import PAGES, PROGRAM, ROOT, line, name

FENCE = re.compile(r"^ *([`~]{3,})([^\n`]*)\n(.*?)^ *\1$", re.DOTALL | re.MULTILINE)
# Of Python there are programs and included examples. The other languages have no programs to run.
LANGUAGES = {"python", "text", "sh", "toml", "ini", "yaml", "json", "mermaid", "dockerfile", "promql"}
DIRECTIVES = {"{literalinclude}", "{toctree}", "{eval-rst}", "{image}", "{note}"}
# test_tutorial_examples.py has a client for it. (tests/kernel/test_uring_examples.py runs those of uring.md.)
ELSEWHERE = {("README.md", "type: nc localhost")}
SECONDS = 100


def programs() -> list[object]:
    return [
        pytest.param(match[1], match[2], id=f"{name(page)}:{line(match)}")
        for page in PAGES
        for match in PROGRAM.finditer(page.read_text())
        if page.name != "uring.md"
        and not any(name(page) == where and mark in match[1] for where, mark in ELSEWHERE)
    ]


@pytest.mark.parametrize(("program", "says"), programs())
def test_a_program_runs(program: str, says: str | None, tmp_path: Path) -> None:
    is_test = "def test_" in program
    file = tmp_path / ("test_program.py" if is_test else "program.py")
    file.write_text(program)
    by_pytest = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:httpbin"] if is_test else []
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "URING_TRIO"))}
    done = subprocess.run(
        [sys.executable, "-W", "error", *by_pytest, str(file)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=SECONDS,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    if says is not None:
        assert done.stdout == says


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_no_block_escapes(page: Path) -> None:
    text = page.read_text()
    for _, info, _ in FENCE.findall(text):
        language = info.split()[0] if info.strip() else ""
        assert language in LANGUAGES | DIRECTIVES, f"a block of {language!r} is not run"
    assert len(PROGRAM.findall(text)) == len(re.findall(r"^ *[`~]{3,} *(?:python|py\b)", text, re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_what_is_included_is_an_example(page: Path) -> None:
    for target in re.findall(r"\{literalinclude\} *(\S+)", page.read_text()):
        path = (page.parent / target).resolve()
        assert path.is_file(), target
        assert path.parent in {
            ROOT / "examples",
            ROOT / "examples" / "apps",
            ROOT / "examples" / "uring",
            ROOT / "examples" / "tutorial",
            ROOT / "docs" / "containers",
        }


def test_every_program_of_the_tutorial_has_a_test() -> None:
    tests = (Path(__file__).parent / "test_tutorial_examples.py").read_text()
    for file in (ROOT / "examples" / "tutorial").glob("*.py"):
        assert f'"{file.name}"' in tests
