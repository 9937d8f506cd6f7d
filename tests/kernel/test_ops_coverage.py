"""Every opcode of Linux 6.18 is run against the kernel by some test of this directory.

The tests say which they exercise; that they really submit them is checked at the end of each.
"""

import ast
from pathlib import Path

import uring.ops
from uring import abi, opcodes

LAST_OF_618 = abi.IORING_OP_PIPE


def marked():
    """Opcodes by number, with the tests that name them."""
    found = {}
    for path in Path(__file__).parent.glob("test_ops_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.FunctionDef):
                continue
            for mark in node.decorator_list:
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.opcodes":
                    for name in mark.args:
                        found.setdefault(opcodes.by_name(name.value).number, []).append(node.name)
    return found


def test_every_opcode_is_exercised():
    missing = {row.name for row in opcodes.OPCODES if row.number <= LAST_OF_618} - {
        opcodes.by_number(number).name for number in marked()
    }
    assert not missing


def test_every_operation_is_used_by_a_test():
    text = "".join(path.read_text() for path in Path(__file__).parent.glob("test_ops_*.py"))
    used = {
        node.attr
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "ops"
    }
    names = {name for name in uring.ops.__all__ if name[0].islower()}
    assert not names - used
