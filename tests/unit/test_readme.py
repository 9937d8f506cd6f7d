"""The commands and paths that the README and the documents name exist, and the Python they show compiles."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

from tools.pages import PAGES as DOCUMENTS
from tools.pages import ROOT

FENCE = re.compile(r"^```([\w{}-]*)[^\n]*\n(.*?)^```$", re.DOTALL | re.MULTILINE)
REPOSITORY = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Source"]
SHELL = {"", "sh", "bash", "console", "shell"}


def blocks(languages: set[str]) -> list[object]:
    """The code blocks of all documents in one of ``languages``, as test parameters."""
    return [
        pytest.param(match[2], id=f"{path.name}:{path.read_text()[: match.start()].count(chr(10)) + 1}")
        for path in DOCUMENTS
        for match in FENCE.finditer(path.read_text())
        if match[1] in languages
    ]


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_readme_shows_the_two_commands_and_python() -> None:
    text = (ROOT / "README.md").read_text()
    assert "make demo" in text
    assert "make test" in text
    assert "```python" in text


@pytest.mark.parametrize("block", blocks({"python", "py"}))
def test_python_compiles(block: str) -> None:
    # Examples may use await at the top level, as the asynchronous console does.
    compile(block, "example", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)


@pytest.mark.parametrize("block", blocks(SHELL))
def test_commands_exist(block: str) -> None:
    assert set(re.findall(r"^\$? ?make ([a-z-]+)", block, re.MULTILINE)) <= make_targets()
    for script in re.findall(r"(?:examples|benchmarks|tools)/\w+\.(?:py|sh)", block):
        assert (ROOT / script).is_file()


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.name)
def test_paths_exist(page: Path) -> None:
    text = page.read_text()
    named = re.findall(r"`((?:src|tests|tools|docs|examples|benchmarks)/[\w./*-]*)`", text)
    assert [path for path in named if not any(ROOT.glob(path.rstrip("/")))] == []
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", text)
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_links_of_the_readme_work_on_other_sites() -> None:
    links = re.findall(r"\]\(([^)]+)\)", (ROOT / "README.md").read_text())
    inside = [re.fullmatch(rf"{REPOSITORY}/(?:blob|tree)/main/([^#]+)(?:#.*)?", link) for link in links]
    assert [link for link in links if not link.startswith("https://")] == []
    assert [match[1] for match in inside if match and not (ROOT / match[1]).exists()] == []
    assert any(inside)


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.name)
def test_no_paragraph_stands_twice(page: Path) -> None:
    paragraphs = [part for part in page.read_text().split("\n\n") if len(part) > 100]
    assert len(paragraphs) == len({*paragraphs})


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.name)
def test_no_merge_was_left_open(page: Path) -> None:
    assert not re.search(r"^(<{7}|={7}$|>{7})", page.read_text(), re.MULTILINE)


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.name)
def test_links_lead_to_headings(page: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#([^)]+)\)", page.read_text()):
        other = page.parent / target if target else page
        assert anchor in {
            anchor_of(line) for line in re.findall(r"^#+ (.*)$", other.read_text(), re.MULTILINE)
        }


def anchor_of(heading: str) -> str:
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
