"""The site: `make docs` builds it into build/docs, without the network and with warnings as errors."""

from __future__ import annotations

import builtins
import inspect
import re
import sys
import tomllib
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docutils import nodes
from sphinx import addnodes

import uring
import uring_trio

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path.insert(0, str(HERE))

from diagrams import as_table  # noqa: E402
from inventories import written  # noqa: E402

SOURCE = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Source"]

project = "uring-trio"
author = "the uring-trio authors"
copyright = author
version = release = uring.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "inventories"]
nitpicky = False
default_role = "py:obj"
suppress_warnings = ["config.cache", "ref.python"]  # `public_classes` settles which of two names is meant

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True, "inherited-members": "object", "show-inheritance": True}
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
python_maximum_signature_line_length = 88
python_use_unqualified_type_names = True
add_module_names = False
toc_object_entries_show_parents = "hide"
manpages_url = "https://man7.org/linux/man-pages/man{section}/{page}.{section}.html"

# The inventories are written from the lists beside them, so that a build needs no network.
intersphinx_mapping = {
    name: (url, str(written(name, ROOT / "build" / "inventories")))
    for name, url in {
        "python": "https://docs.python.org/3",
        "trio": "https://trio.readthedocs.io/en/stable",
        "anyio": "https://anyio.readthedocs.io/en/stable",
    }.items()
}

html_theme = "furo"
html_title = "uring-trio"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
copybutton_exclude = ".linenos, .gp, .go"
html_theme_options = {
    "source_repository": SOURCE,
    "source_branch": "main",
    "source_directory": "docs/",
}

OUTSIDE = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)(#[^)\s]*)?\)")
NAME = re.compile(r"((?:uring_trio|uring|trio|anyio)(?:\.\w+)+)(?:\(.*\))?")
MANUAL = re.compile(r"(?<![\w:`])([a-z_][\w-]*)\((2|3|7|8)\)")


def link_to_repository(app: Sphinx, docname: str, source: list[str]) -> None:
    """Links to files that are no pages of the site lead to the repository."""
    folder = (HERE / docname).parent

    def outside(link: re.Match[str]) -> str:
        target = (folder / link[1]).resolve()
        if target.is_relative_to(HERE) or not target.exists():  # Sphinx warns of what does not exist
            return link[0]
        kind = "tree" if target.is_dir() else "blob"
        return f"]({SOURCE}/{kind}/main/{target.relative_to(ROOT)}{link[2] or ''})"

    source[0] = OUTSIDE.sub(outside, source[0])


def name_manual_pages(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """`recv(2)` in a docstring leads to the manual page."""
    lines[:] = [MANUAL.sub(r":manpage:`\1(\2)`", line) for line in lines]


def made_later(
    app: Sphinx,
    what: str,
    name: str,
    obj: object,
    options: object,
    signature: str | None,
    returns: str | None,
) -> tuple[str, str | None] | None:
    """A default that a dataclass makes for each object is shown as ``...``. With ``<factory>`` a signature is
    no Python, and would be broken at each comma."""
    return (signature.replace("<factory>", "..."), returns) if signature else None


def only_of_this_project(
    app: Sphinx, what: str, name: str, obj: object, skip: bool, options: object
) -> bool | None:
    """Members that a class inherits from Trio, AnyIO or Python stay in the references of those.

    A constant of `uring.abi` stands once: as the member of its enumeration.
    """
    if what == "module":
        return True if isinstance(obj, Enum) else None
    function = getattr(obj, "fget", None) or getattr(obj, "__func__", None) or obj
    owner = getattr(function, "__objclass__", function)
    module = getattr(owner, "__module__", None)
    foreign = inspect.isbuiltin(obj) or (isinstance(module, str) and not module.startswith("uring"))
    return True if what in {"class", "exception"} and foreign else None


def public_classes(app: Sphinx, doctree: nodes.document) -> None:
    """A class that is named without its module is the public one: `Op` is no enumeration of `uring.abi`. A
    type of Python stays one: `bytes` is no member of a class."""
    for node in doctree.findall(addnodes.pending_xref):
        name = node.get("reftarget", "")
        if node.get("refdomain") == "py" and hasattr(builtins, name):
            # No member of that name here, such as `ZCRXBuffer.bytes`.
            node.attributes.pop("refspecific", None)
            node["py:module"] = node["py:class"] = None
        for package in (uring_trio, uring):
            if node.get("refdomain") == "py" and name[:1].isupper() and name in package.__all__:
                node["reftarget"] = f"{package.__name__}.{name}"


def link_code(app: Sphinx, doctree: nodes.document) -> None:
    """Code in a text that is a name of the reference, or of Trio's or AnyIO's, leads there."""
    for literal in [*doctree.findall(nodes.literal)]:
        name = NAME.fullmatch(literal.astext())
        if name and not isinstance(literal.parent, (nodes.reference, addnodes.pending_xref)):
            link = addnodes.pending_xref(
                refdomain="py", reftype="obj", reftarget=name[1], refdoc=app.env.docname, refexplicit=True
            )
            literal.replace_self(link)
            link += literal


def draw_states(app: Sphinx, doctree: nodes.document) -> None:
    for block in [*doctree.findall(nodes.literal_block)]:
        if block.get("language") == "mermaid":
            block.replace_self(as_table(block.astext()))


def under_public_name(
    app: Sphinx, env: BuildEnvironment, node: Any, content: nodes.TextElement
) -> nodes.Node | None:
    """A reference by the module where a name lives, as in signatures, leads to the name that is public."""
    before, _, last = node.get("reftarget", "").rpartition(".")
    if before and not before.startswith("uring"):
        return None
    domain = env.domains.python_domain
    for package in (uring_trio, uring):
        if last in package.__all__:
            return domain.resolve_xref(
                env, node["refdoc"], app.builder, "obj", f"{package.__name__}.{last}", node, content
            )
    return None


def setup(app: Sphinx) -> None:
    app.connect("source-read", link_to_repository)
    app.connect("autodoc-process-docstring", name_manual_pages)
    app.connect("autodoc-process-signature", made_later)
    app.connect("autodoc-skip-member", only_of_this_project)
    for change in (link_code, public_classes, draw_states):
        app.connect("doctree-read", change)
    app.connect("missing-reference", under_public_name)
