"""The page of what was tried has each trial, its failure, and a picture of what was measured over time. The
one of this project has every trial that there is."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest

from benchmarks.plots import Bars, draw, shows
from tests.stress.__main__ import PARTS, first_sentence
from tests.stress.report import PAGE, Report, Result, image, load, panels, replaced, text, write

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def fonts(tmp_path_factory: pytest.TempPathFactory) -> None:
    """matplotlib keeps its fonts open from the first picture on."""
    pytest.importorskip("matplotlib", reason="draws")
    draw(
        tmp_path_factory.mktemp("first") / "a.svg", [Bars("a", "b", {"c": (1, 1, 1)})], columns=1, size=(1, 1)
    )


@pytest.mark.usefixtures("fonts")
def test_the_page(tmp_path: Path) -> None:
    samples = {
        "ring": {"seconds": [1, 2], "memory": [5 << 20, 6 << 20], "slots": [4, 4]},
        "stock": {"seconds": [1, 2], "memory": [1, 2], "slots": [0, 0]},
    }
    results = [
        Result("kills", "Nothing is lost", 3.0, counts={"kills": 7}),
        Result("forks", "It goes on", 2.0, failure="status 1\nAssertionError: a | b"),
        Result("soak", "It stays", 4.0, counts={"rounds": 1}, stock={"rounds": 2}, samples=samples),
    ]
    page = tmp_path / "promises.md"
    report = Report(9, 20, results)
    write(page, report)
    written = page.read_text()
    assert 'make stress ARGS="--minutes 20 --seed 9"' in written
    assert "| kills | Nothing is lost | 3 | kills 7 | – |" in written
    assert "**failed**: AssertionError: a \\| b" in written
    assert "| soak | It stays | 4 | rounds 1 | rounds 2 |" in written
    assert "(promises-soak.svg)" in written
    drawn = {
        group.get("id") for group in ElementTree.parse(tmp_path / "promises-soak.svg").findall(".//{*}g")
    }
    assert {"memory: ring", "memory: stock", "slots: ring"} < drawn
    assert "slots: stock" not in drawn  # it has none
    assert load(tmp_path / "promises.json") == report


def test_a_part_played_by_itself_takes_its_place_in_the_report() -> None:
    report = Report(9, 20, [Result("kills", "Nothing is lost", 3.0), Result("soak", "It stays", 4.0)])
    soak = Result("soak", "It stays", 1200.0, counts={"rounds": 7})
    found = replaced(report, [soak], "make stress")
    assert found.results == [report.results[0], soak]
    assert found.note == "Played by itself: soak, by `make stress`."


def test_the_page_of_this_project_is_what_its_results_say() -> None:
    report = load(PAGE.with_suffix(".json"))
    assert PAGE.read_text() == text(report)
    for result in report.results:
        assert not result.failure
        if result.samples:
            assert shows(PAGE.parent / image(result), panels(result))


def test_the_page_has_every_trial_with_what_it_promises() -> None:
    report = load(PAGE.with_suffix(".json"))
    assert {result.name: result.promise for result in report.results} == {
        name: first_sentence(name) for name in PARTS
    }
