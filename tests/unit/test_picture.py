"""The picture of the layers in the architecture page is the one that the imports make."""

from graphlib import CycleError
from pathlib import Path

import pytest

from tools import picture


def test_the_page_is_up_to_date() -> None:
    text = picture.PAGE.read_text()
    assert picture.page(text) == text, "run: python -m tools.picture"
    assert picture.IMAGE.read_text() == picture.drawing(), "run: python -m tools.picture"


def test_floors_are_counted_from_below() -> None:
    graph = {"top": {"middle", "base"}, "middle": {"base"}, "base": set(), "aside": {"base"}}
    assert picture.floors(graph) == {"base": 1, "middle": 2, "aside": 2, "top": 3}


def test_a_circle_has_no_floors() -> None:
    with pytest.raises(CycleError):
        picture.floors({"a": {"b"}, "b": {"a"}})


def test_every_import_counts(tmp_path: Path) -> None:
    module = tmp_path / "m.py"
    module.write_text(
        "from .. import a\nfrom ..b import name\nimport p.c\nimport os\n"
        "if TYPE_CHECKING:\n    from .d import E\ndef f():\n    from .g import h\n"
    )
    known = {"p", "p.a", "p.b", "p.c", "p.q.d", "p.q.g", "p.q.m"}
    assert {*picture.imported("p.q.m", module, known)} == {"p.a", "p.b", "p.c", "p.q.d", "p.q.g"}
