"""The direction of imports, and who may touch what is unsafe or private.

``LAYERS`` says what may be imported, top row first; the picture in the architecture document is what is
imported now. A module may import from rows below its own, never from its own row or from above: not inside a
function, and not under ``if TYPE_CHECKING:``, where a lower module names an upper one by a small protocol. A
package with modules of its own, as ``ops`` is, stands for all of them that have no row; these may import each
other, without a circle.

``FOLDERS`` says the same of the folders of `uring_trio`.
"""

import ast
import re
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src"

LAYERS = [
    ["uring_trio.__main__", "uring_trio.anyio", "uring_trio.testing"],
    ["uring_trio"],
    ["uring_trio.launch"],
    ["uring_trio.live"],
    ["uring_trio.debug", "uring_trio.metrics"],
    ["uring_trio.core.manager"],
    ["uring_trio.fs", "uring_trio.ipc", "uring_trio.net"],
    ["uring_trio.multishot"],
    ["uring_trio.core.perform"],
    ["uring_trio.core.fd"],
    ["uring_trio.core.draining", "uring_trio.core.inspection"],
    ["uring_trio.core.engine"],
    ["uring_trio.core.cancels"],
    ["uring_trio.core.operation", "uring_trio.core.statistics"],
    ["uring_trio.core"],
    ["uring_trio.options", "uring_trio.seams"],
    ["uring.__main__"],
    ["uring"],
    ["uring.ring"],
    ["uring.machines"],
    ["uring.session"],
    ["uring.contexts", "uring.probe"],
    ["uring.ops"],
    ["uring.kernel"],
    ["uring.options"],
    ["uring.cached", "uring.errors", "uring.opcodes"],
    ["uring._names", "uring._version", "uring.abi", "uring.advice", "uring.bounds"],
    ["uring._cached", "uring._ffi", "uring._requests"],
]
FOLDERS = {
    "launch": {"core", "fs", "ipc", "live", "multishot", "net", "options", "seams"},
    "live": {"core", "debug", "net"},
    "net": {"core", "multishot", "seams"},
    "fs": {"core", "seams"},
    "ipc": {"core", "seams"},
    "multishot": {"core", "seams"},
    "core": {"options", "seams"},
    "seams": set(),
}
"""Which folders of `uring_trio` a folder may import from; ``options`` is a module."""

ROW = {module: row for row, modules in enumerate(LAYERS) for module in modules}

# Addresses and mappings are handled here and nowhere else.
MAY_IMPORT_FFI = {"uring.kernel.lib"}
MAY_USE_FFI = ("uring.kernel.", "uring.__main__")
MAY_USE_PRIVATE_NAMES = ("uring_trio.seams",)
HOSTS = ("trio", "anyio")
# Every type checker brings it along; no program needs to have it.
FOR_CHECKERS = "typing_extensions"

PRIVATE_IN_STRING = re.compile(rf"({'|'.join(HOSTS)})(\.\w+)*\._[a-z]\w*(\.\w+)*", re.IGNORECASE)
MACHINE_PATH = re.compile(r"/(home|root|Users|work|opt|mnt|srv)/\w")


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__")


# The build script of the extension does not run with the package; `_moved` has earlier names of modules.
PATHS = {
    module_name(path): path
    for package in ("uring", "uring_trio")
    for path in sorted((SRC / package).rglob("*.py"))
    if not {"_shim", "_moved"} & {*path.parts}
}
KNOWN = {*PATHS, "uring._cached", "uring._ffi", "uring._requests", "uring_trio.seams._ticks"}
modules = pytest.mark.parametrize("module", PATHS)


@modules
def test_has_a_place(module: str) -> None:
    assert place(module) is not None, (
        f"{module} is in no layer: place it in LAYERS and in the architecture document"
    )


@modules
def test_imports_go_down(module: str) -> None:
    assert upward_imports(module, tree_of(module)) == []


@modules
def test_what_a_subclass_has_to_give_is_abstract(module: str) -> None:
    """An abstract method refuses the class that lacks it, NotImplementedError only the call of the method."""
    assert "NotImplementedError" not in PATHS[module].read_text()


def test_no_circles() -> None:
    """Nor through annotations: type-only imports count, and imports inside functions."""
    edges = {module: {*imports(module, tree_of(module))} & {*PATHS} for module in PATHS}
    tuple(TopologicalSorter(edges).static_order())  # or CycleError, which names the circle


@modules
def test_folders_import_as_drawn(module: str) -> None:
    folder = folder_of(module)
    if folder in FOLDERS:
        for target in imports(module, tree_of(module)):
            other = folder_of(target)
            assert other in (folder, None) or other in FOLDERS[folder], f"{module} imports {target}"


@modules
def test_uring_needs_no_framework(module: str) -> None:
    if module.partition(".")[0] == "uring":
        roots = {name.partition(".")[0] for name in imports(module, tree_of(module))}
        assert roots <= {*sys.stdlib_module_names, "cffi", "uring", FOR_CHECKERS}


@modules
def test_names_for_checkers_are_imported_by_checkers_alone(module: str) -> None:
    tree = tree_of(module)
    guarded = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == FOR_CHECKERS:
            assert id(node) in guarded


def test_few_import_the_extension() -> None:
    assert len(MAY_IMPORT_FFI) <= 3
    importers = {module for module in PATHS if "uring._ffi" in imports(module, tree_of(module))}
    assert importers <= MAY_IMPORT_FFI
    users = {module for module in PATHS if "uring.kernel.lib" in imports(module, tree_of(module))}
    assert [module for module in users if not module.startswith(MAY_USE_FFI)] == []


@modules
def test_private_names_stay_in_seams(module: str) -> None:
    if not module.startswith(MAY_USE_PRIVATE_NAMES):
        assert private_names(tree_of(module)) == []


@pytest.mark.parametrize(
    "path", [p for p in SRC.rglob("*") if p.suffix in {".py", ".c", ".h"}], ids=lambda p: p.name
)
def test_names_no_machine(path: Path) -> None:
    text = path.read_text()
    if path.name != "_ffi.c":  # generated, never committed
        assert MACHINE_PATH.search(text) is None
        assert str(ROOT) not in text


@pytest.mark.parametrize(
    ("module", "source", "wrong"),
    [
        ("uring.kernel.buffers", "from .. import ops", ["uring.ops"]),
        ("uring.kernel.buffers", "from ..contexts.entry import view_sqe", ["uring.contexts.entry"]),
        ("uring.ring", "from .errors import Error", []),
        ("uring.ring", "import uring", ["uring"]),
        ("uring.ring", "from uring import RingError", ["uring"]),
        ("uring.opcodes", "def f():\n from uring.kernel.memory import pin", ["uring.kernel.memory"]),
        (
            "uring.opcodes",
            "if TYPE_CHECKING:\n import uring.kernel.memory\nelse:\n import uring.ops",
            ["uring.kernel.memory", "uring.ops"],
        ),
        ("uring.ops.socket", "from .poll import poll_add", []),
        ("uring_trio.net.socket", "import uring\nfrom uring import ops", []),
    ],
)
def test_the_import_rule_sees(module: str, source: str, wrong: list[str]) -> None:
    assert upward_imports(module, ast.parse(source)) == wrong


@pytest.mark.parametrize(
    "source",
    [
        "import trio._core",
        "from trio._core import _run",
        "from trio import _socket",
        "import trio\nx = trio._core._run",
        "import trio.socket as s\ns._SocketType",
        "from anyio import abc as a\na.b._c",
        "patch('trio._core._run.TheIOManager')",
    ],
)
def test_the_private_name_rule_sees(source: str) -> None:
    assert private_names(ast.parse(source))
    assert not private_names(
        ast.parse("import trio\nfrom anyio import run\ntrio.lowlevel.x.__doc__\nself._y")
    )


def tree_of(module: str) -> ast.Module:
    return ast.parse(PATHS[module].read_text())


def place(module: str) -> int | None:
    """The row of a module, or of the package within the layers that it is in."""
    while module not in ROW and module.count(".") > 1:
        module = module.rpartition(".")[0]
    return ROW.get(module)


def folder_of(module: str) -> str | None:
    """The folder of a module of `uring_trio`; None for what is outside of it."""
    parts = module.split(".")
    return parts[1] if parts[0] == "uring_trio" and len(parts) > 1 else None


def upward_imports(module: str, tree: ast.Module) -> list[str]:
    own = place(module)
    wrong = []
    for target in imports(module, tree):
        if target.partition(".")[0] not in ("uring", "uring_trio") or same_house(module, target):
            continue
        row = place(target)
        if own is None or row is None or row <= own:
            wrong.append(target)
    return wrong


def same_house(module: str, target: str) -> bool:
    """Whether both are in one package that the layers name as a whole."""
    return module.split(".")[1:2] == target.split(".")[1:2] and place(module) == place(target) is not None


def imports(module: str, tree: ast.Module) -> Iterator[str]:
    """The modules that ``tree``, the text of ``module``, imports anywhere in it."""
    package = module if PATHS.get(module, Path()).name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                base = ".".join([*parts[: len(parts) - node.level + 1], *filter(None, [base])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield inner if inner in KNOWN or inner in ROW else base


def private_names(tree: ast.Module) -> list[str]:
    """Each use of a name of Trio or AnyIO that starts with an underscore."""
    found = []
    hosts: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] in HOSTS:
                    hosts.add(alias.asname or alias.name.partition(".")[0])
                    found += [alias.name] if is_private(alias.name) else []
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] in HOSTS:
            for alias in node.names:
                hosts.add(alias.asname or alias.name)
                full = f"{node.module}.{alias.name}"
                found += [full] if is_private(full) else []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            dotted = ast.unparse(node)
            if dotted.partition(".")[0] in hosts and is_private(dotted):
                found.append(dotted)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found += [node.value] if PRIVATE_IN_STRING.fullmatch(node.value) else []
    return found


def is_private(dotted: str) -> bool:
    return any(part.startswith("_") and not part.startswith("__") for part in dotted.split("."))
