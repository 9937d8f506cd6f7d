"""The public names of both packages: loaded when they are asked for, and found by every reader."""

import ast
import importlib
import inspect
import json
import pydoc
import subprocess
import sys
import types
from pathlib import Path

import pytest

import uring
import uring_trio

PACKAGES = pytest.mark.parametrize("package", [uring, uring_trio], ids=lambda package: package.__name__)
MOVED = sorted(path.stem for path in Path(uring.__file__).parent.joinpath("_moved").glob("[a-z]*.py"))
INTERPRETER = {"uring.machines", "uring.machines.machine"}
"""What runs the tables of both packages: a module without a ring."""
USED_BY_RINGS_ALONE = ("uring.session", "uring.machines", "uring.contexts", "uring.ring")


def loaded_by(program: str) -> list[str]:
    """The modules of both packages that a fresh interpreter has loaded at the end of a program."""
    report = "import json, sys; print(json.dumps([m for m in sys.modules if m.startswith('uring')]))"
    ran = subprocess.run(
        [sys.executable, "-c", f"{program}\n{report}"], capture_output=True, text=True, check=True
    )
    return json.loads(ran.stdout)


def imports_for_checkers(package: types.ModuleType) -> dict[str, str]:
    """Each name that a type checker finds in the package, with its module."""
    found = {}
    for node in ast.walk(ast.parse(inspect.getsource(package))):
        if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").startswith("uring.")):
            base = package.__name__ if node.level else ""
            module = ".".join(filter(None, [base, node.module]))
            found |= {alias.name: module for alias in node.names if alias.asname is None}
    del found["names_on_demand"]
    found.pop("environment", None)
    return found


@PACKAGES
def test_checkers_and_programs_find_the_same_names(package: types.ModuleType) -> None:
    found = imports_for_checkers(package)
    assert sorted(found) == sorted(package.__all__)
    for name, module in found.items():
        value = getattr(package, name)
        if isinstance(value, types.ModuleType):
            assert value is importlib.import_module(f"{module}.{name}")
        else:
            assert value is getattr(importlib.import_module(module), name)


@PACKAGES
def test_readers_see_the_names(package: types.ModuleType) -> None:
    assert {*package.__all__} <= {*dir(package)}
    page = pydoc.plain(pydoc.render_doc(package))
    assert [name for name in package.__all__ if name not in page] == []
    star: dict[str, object] = {}
    exec(f"from {package.__name__} import *", star)
    assert {*package.__all__} <= {*star}


@PACKAGES
def test_a_name_that_is_not_there(package: types.ModuleType) -> None:
    for name in ("no_such_name", "__no_such_name__", "_no_such_name"):
        with pytest.raises(AttributeError, match=f"'{package.__name__}' has no attribute '{name}'"):
            getattr(package, name)


def test_a_module_is_found_as_an_attribute() -> None:
    assert loaded_by("import uring; uring.kernel.KernelRing; uring.views.CQEView; uring.ops.nop")
    assert loaded_by("import uring_trio; uring_trio.fs.open_file; uring_trio.options.RingOptions")


def test_no_name_is_also_a_module() -> None:
    """An import of such a module would put it in the name's place."""
    names = {path.stem for folder in uring.__path__ for path in Path(folder).glob("[a-z]*")}
    assert names & {*uring.__all__} == {"abi", "ops"}


def test_what_an_import_loads() -> None:
    assert {*loaded_by("import uring")} == {"uring", "uring._names", "uring._version"}
    assert {*loaded_by("import uring_trio")} == {
        "uring",
        "uring._names",
        "uring._version",
        "uring.errors",
        "uring_trio",
    }


@pytest.mark.parametrize(
    "program",
    [
        "from uring_trio import *",
        pytest.param("import trio, uring_trio\nuring_trio.run(trio.sleep, 0)", marks=pytest.mark.ring),
        pytest.param(
            "import trio, uring_trio\nuring_trio.install()\ntrio.run(trio.sleep, 0)", marks=pytest.mark.ring
        ),
    ],
)
def test_trio_needs_no_session(program: str) -> None:
    loaded = loaded_by(program)
    assert "uring.kernel.ring" in loaded
    assert {module for module in loaded if module.startswith(USED_BY_RINGS_ALONE)} <= INTERPRETER


@pytest.mark.parametrize("name", MOVED)
def test_an_earlier_path_names_the_same_objects(name: str) -> None:
    earlier = importlib.import_module(f"uring.{name}")
    path = (earlier.__doc__ or "").split("`")[1]
    module = importlib.import_module(path)
    assert module.__all__
    for public in module.__all__:
        assert getattr(earlier, public) is getattr(module, public)
