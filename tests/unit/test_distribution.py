"""Makefile, workflows, tools and metadata agree on what is built, checked and published."""

import re
import sys
import tomllib
from pathlib import Path

import pytest

from tests.unit.test_readme import make_targets
from tools import dist

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MAKEFILE = (ROOT / "Makefile").read_text()
WORKFLOWS = [ROOT / ".ci" / "run", *sorted((ROOT / ".github" / "workflows").glob("*.yml"))]


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_workflows_name_targets_of_the_makefile(file: Path) -> None:
    named = re.findall(r"(?:^|run: )\s*make ((?:[a-z-]+ )*[a-z-]+)(?= |$)", file.read_text(), re.MULTILINE)
    targets = {target for words in named for target in words.split()}
    assert targets
    assert targets <= make_targets()


def test_hosted_machines_run_no_test_that_needs_a_ring() -> None:
    hosted, own = (ROOT / ".github/workflows/ci.yml").read_text().split("self-hosted")
    commands = re.findall(r"make test\b.*", hosted)
    assert commands == ["make test ARGS=\"-q tests/unit -m 'not ring'\""]
    assert ".ci/run" in own


def test_commit_hooks_run_what_make_check_runs() -> None:
    hooks = re.findall(r"entry: (.*)", (ROOT / ".pre-commit-config.yaml").read_text())
    assert len(hooks) == 3
    checks = MAKEFILE.partition("\ncheck:")[2].partition("\n\n")[0]
    for hook in hooks[:2]:
        assert hook.replace(".venv/bin/", "$(BIN)/") in checks
    assert hooks[2] == ".venv/bin/python -m tools.picture --check"


def test_the_same_pythons_are_tried_named_and_promised() -> None:
    pythons = list(dist.PYTHONS)
    stem = "Programming Language :: Python :: 3."
    named = [c.rpartition(" ")[2] for c in PROJECT["project"]["classifiers"] if c.startswith(stem)]
    assert named == pythons
    assert re.findall(r"^VERSIONS := (.*)", MAKEFILE, re.MULTILINE) == [" ".join(pythons)]
    assert PROJECT["project"]["requires-python"] == f">={pythons[0]}"
    for page in ("README.md", "docs/reference/support.md"):
        assert f"CPython {pythons[0]} to {pythons[-1]}" in (ROOT / page).read_text()


def test_wheels_are_for_the_c_libraries_that_are_promised() -> None:
    settings = PROJECT["tool"]["cibuildwheel"]
    major, minor = dist.NEWEST
    for processor in settings["linux"]["archs"]:
        assert settings[f"manylinux-{processor}-image"] == f"manylinux_{major}_{minor}"
        assert settings[f"musllinux-{processor}-image"] == "musllinux_1_2"
    promised = (ROOT / "docs/reference/support.md").read_text()
    assert f"| glibc {major}.{minor} and later, musl 1.2 and later |" in promised


def test_every_extension_of_a_wheel_is_imported_where_it_is_built() -> None:
    setup = (ROOT / "setup.py").read_text()
    extensions = {*re.findall(r'^    "(uring[\w.]+)": ', setup, re.MULTILINE), "uring._ffi"}
    assert len(extensions) == 4
    (command, _) = PROJECT["tool"]["cibuildwheel"]["test-command"]
    assert {*re.findall(r"uring[\w.]+", command)} == extensions


def test_a_release_has_the_address_of_its_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    dist.check_address(PROJECT["project"]["urls"]["Source"])
    with pytest.raises(SystemExit, match=r"this is https://github\.com/uring-trio/uring: change these"):
        dist.check_address("https://github.com/uring-trio/uring")
    workflow = (ROOT / ".github" / "workflows" / "release.yml").read_text()
    assert "--repository $GITHUB_SERVER_URL/$GITHUB_REPOSITORY" in workflow
    publish = workflow.partition("  publish:")[2]
    assert "needs: [wheels, source]" in publish
    monkeypatch.setattr(sys, "argv", ["dist.py", "--repository", "https://example.org/elsewhere"])
    with pytest.raises(SystemExit, match="change these"):
        dist.main()
