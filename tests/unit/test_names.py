"""The public names of ``uring``: where they are found, also by their earlier paths."""

import importlib
from pathlib import Path

import pytest

import uring

MOVED = sorted(path.stem for path in Path(uring.__file__).parent.joinpath("_moved").glob("[a-z]*.py"))


@pytest.mark.parametrize("name", MOVED)
def test_an_earlier_path_names_the_same_objects(name: str) -> None:
    earlier = importlib.import_module(f"uring.{name}")
    path = (earlier.__doc__ or "").split("`")[1]
    module = importlib.import_module(path)
    assert module.__all__
    assert {public: getattr(earlier, public) for public in module.__all__} == {
        public: getattr(module, public) for public in module.__all__
    }
