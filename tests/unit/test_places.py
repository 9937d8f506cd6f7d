"""Where tests are: a module's name says what it tests, and no other module has that name."""

from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"


def packages(folder: Path) -> set[str]:
    return {path.parent.name for path in folder.glob("*/*.py")}


def test_no_two_modules_have_one_name() -> None:
    names = Counter(path.name for path in TESTS.rglob("test_*.py"))
    assert [name for name, number in names.items() if number > 1] == []


def test_the_folders_of_uring_trio_are_its_packages() -> None:
    assert packages(TESTS / "trio") == packages(ROOT / "src" / "uring_trio")
