"""The table of races in docs/explanation/cancellation.md: each row has a test, and each test a row."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_each_race_of_the_page_has_its_test() -> None:
    page = (ROOT / "docs" / "explanation" / "cancellation.md").read_text()
    rows = re.findall(r"^\| (\d\d) \|", page, re.M)
    assert rows == sorted(set(rows))
    tested = {
        number
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"def test_race_(\w+)", path.read_text())
        for number in re.match(r"\d\d(?:_and_\d\d)*", name)[0].split("_and_")  # type: ignore[index]
    }
    assert tested == set(rows)
