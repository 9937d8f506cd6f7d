"""The tag of the wheel says which Pythons its extensions run on."""

from __future__ import annotations

import runpy
import sys
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
import setuptools

ROOT = Path(__file__).parents[2]
Version = namedtuple("Version", ["major", "minor", "micro", "releaselevel", "serial"])


@pytest.mark.parametrize(
    ("builder", "tag"), [((3, 11), "cp311"), ((3, 12), "cp312"), ((3, 13), "cp312"), ((3, 15), "cp312")]
)
def test_later_builders_leave_3_11_out(
    builder: tuple[int, int], tag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their headers return None without a reference, which 3.11 counts."""
    given: dict[str, Any] = {}
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(setuptools, "setup", lambda **options: given.update(options))
    monkeypatch.setattr(sys, "version_info", Version(*builder, 0, "final", 0))
    runpy.run_path("setup.py")
    assert given["options"]["bdist_wheel"]["py_limited_api"] == tag
