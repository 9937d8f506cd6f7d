"""A missing program or header is reported in one sentence that names the package to install."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PREFLIGHT = Path(__file__).parents[2] / "tools" / "preflight.py"


@pytest.fixture
def only_apt(tmp_path: Path) -> Path:
    """A directory of programs, for PATH, in which the package manager is Debian's."""
    programs = tmp_path / "bin"
    programs.mkdir()
    script(programs / "apt-get", "exit 1")
    return programs


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def sentence(programs: Path, **environment: str) -> str:
    ran = subprocess.run(
        [sys.executable, str(PREFLIGHT)],
        env={"PATH": str(programs), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1
    (line,) = ran.stderr.splitlines()
    return line


def test_no_compiler(only_apt: Path) -> None:
    line = sentence(only_apt, CC="no-such-compiler")
    assert "C compiler (no-such-compiler)" in line
    assert "`apt-get install build-essential`" in line


def test_no_headers(only_apt: Path, tmp_path: Path) -> None:
    compiler = script(tmp_path / "cc", 'read -r line; test "$line" != "#include <Python.h>"')
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert f"`apt-get install python{version}-dev`" in sentence(only_apt, CC=str(compiler))


def test_no_ensurepip(only_apt: Path, tmp_path: Path) -> None:
    compiler = script(tmp_path / "cc", "exit 0")
    (tmp_path / "ensurepip.py").write_text("raise ImportError")
    line = sentence(only_apt, CC=str(compiler), PYTHONPATH=str(tmp_path))
    assert "-venv`" in line


def test_another_system(tmp_path: Path) -> None:
    line = sentence(tmp_path, CC="no-such-compiler")
    assert "install the package gcc" in line


def test_nothing_missing() -> None:
    ran = subprocess.run(
        [sys.executable, str(PREFLIGHT)], env=os.environ, capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
