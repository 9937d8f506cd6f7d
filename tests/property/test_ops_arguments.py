"""Any arguments give an operation that fits into its entry, or an exception that says what is wrong.

The operations are made and not submitted: what is checked is that nothing wrong could reach the kernel.
"""

import array
import inspect
import mmap
import socket
import string
import traceback
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uring import NotSupported, abi, ops
from uring.kernel.messages import Message
from uring.kernel.op import Op

MAKERS = {
    name: getattr(ops, name)
    for name in ops.__all__
    if name[0] in string.ascii_lowercase and name != "release_provided"
}
REFUSALS = (TypeError, ValueError, OverflowError, NotSupported)

edges = [
    0,
    1,
    -1,
    -2,
    2**7,
    2**15,
    2**16 - 1,
    2**16,
    2**20,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**32,
    2**63 - 1,
    2**63,
]
edges += [2**64 - 1, 2**64, -(2**31), -(2**31) - 1, -(2**63), abi.AT_FDCWD, 10**30]
numbers = st.sampled_from(edges) | st.integers() | st.integers(0, 4096)
buffers = st.one_of(
    st.binary(max_size=100),
    st.binary(max_size=100).map(bytearray),
    st.binary(max_size=100).map(lambda raw: memoryview(bytearray(raw))[::2]),
    st.integers(1, 5000).map(lambda size: mmap.mmap(-1, size)),
    st.builds(lambda: memoryview(mmap.mmap(-1, 2 * mmap.PAGESIZE))[: mmap.PAGESIZE]),
    st.builds(lambda n: array.array("i", range(n)), st.integers(0, 9)),
)
paths = st.text(max_size=8) | st.sampled_from(["/tmp", b"/x", "a\0b", "\udcff", Path("y"), "x" * 5000])
addresses = st.one_of(
    st.tuples(st.sampled_from(["127.0.0.1", "::1", "", "localhost", "fe80::1%1"]), numbers),
    st.tuples(st.just("::1"), numbers, numbers, numbers),
    paths,
)
strangers = st.one_of(
    st.none(),
    st.booleans(),
    st.floats(),
    st.builds(object),
    st.sampled_from([socket.AF_INET, socket.AF_INET6, socket.AF_UNIX]),
    st.builds(lambda size: Message(name_size=size), st.integers(0, 128)),
)
simple = st.one_of(numbers, buffers, paths, addresses, strangers)
anything = simple | st.lists(simple, max_size=4) | st.lists(st.tuples(simple, simple, simple), max_size=3)
anything |= st.lists(st.tuples(simple, simple), max_size=3)
names = st.sampled_from(sorted({p for maker in MAKERS.values() for p in inspect.signature(maker).parameters}))


@st.composite
def plausible(draw, maker):
    """Arguments by name, of the kind that the name suggests, but for at most one of them."""
    parameters = inspect.signature(maker).parameters
    odd = draw(st.sampled_from([None, *parameters]))
    chosen = {}
    for name, parameter in parameters.items():
        if name == odd:
            chosen[name] = draw(numbers | anything)
        elif parameter.default is parameter.empty or draw(st.booleans()):
            chosen[name] = draw(likely(name))
    return chosen


ROOM = st.builds(
    lambda size: memoryview(mmap.mmap(-1, mmap.PAGESIZE))[:size], st.sampled_from([64, mmap.PAGESIZE])
)
LIKELY = {
    **dict.fromkeys(("buffer", "data", "value", "memory", "word"), ROOM),
    **dict.fromkeys(("path", "src", "dst", "target", "name"), st.sampled_from(["/tmp", b"/x", Path("y")])),
    **dict.fromkeys(("user_data", "length", "offset", "new_user_data"), st.integers(0, 2**63 - 1)),
    "address": st.tuples(st.just("127.0.0.1"), st.integers(0, 65535)),
    "family": st.just(socket.AF_INET),
    "buffers": st.lists(ROOM, max_size=4),
    "ancillary": st.lists(st.tuples(st.just(1), st.just(1), st.just(b"data")), max_size=2),
    "waiters": st.lists(st.tuples(ROOM, st.integers(0, 2**32 - 1)), min_size=1, max_size=4),
    "flags": st.just(2),
    "size": st.just(64),
    "ioprio": st.just(0),
    "ioprio_class": st.tuples(st.integers(0, 3), st.integers(0, 7)),
    "extra": st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1)),
    "message": st.builds(Message, name_size=st.integers(0, 128)),
    "duration": st.floats(0, 2**32),
    "file_index": st.just(abi.IORING_FILE_INDEX_ALLOC) | st.integers(0, 2**20 - 1),
    "fds": st.lists(st.integers(-1, 2**31 - 1), min_size=1, max_size=4),
}


def likely(name):
    if name in LIKELY:
        return LIKELY[name]
    defaults = [
        inspect.signature(maker).parameters[name].default for maker in MAKERS.values() if takes(maker, name)
    ]
    if bool in map(type, defaults):
        return st.booleans()
    return st.integers(1, 2)


def takes(maker, name):
    return name in inspect.signature(maker).parameters


WIDTHS = [(0, 2**8), (0, 2**40), (-(2**31), 2**31), (0, 2**64), (0, 2**64), (0, 2**32), (0, 2**32)]
WIDTHS += [(0, 2**16), (-(2**31), 2**31), (0, 2**64)]


def check(op):
    assert isinstance(op, Op)
    assert len(op.fields) == len(WIDTHS)
    for value, (least, end) in zip(op.fields, WIDTHS, strict=True):
        assert isinstance(value, int)
        assert least <= value < end
    assert len(op.command) <= 80
    assert op.fd >= -1


@pytest.mark.parametrize("name", sorted(MAKERS))
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_an_operation_fits_into_its_entry_or_is_refused(name, data):
    arguments = data.draw(plausible(MAKERS[name]))
    op = made_or_refused(MAKERS[name], **arguments)
    if op is not None:
        check(op)
    forget(name, arguments)


@pytest.mark.parametrize("name", sorted(MAKERS))
@settings(max_examples=10, deadline=None)
@given(positional=st.lists(anything, max_size=5), named=st.dictionaries(names, anything, max_size=2))
def test_any_call_is_an_operation_or_a_refusal(name, positional, named):
    op = made_or_refused(MAKERS[name], *positional, **named)
    if op is not None:
        check(op)


def made_or_refused(maker, *positional, **named):
    """The operation, or None when it was refused on purpose: not by an accident of the code inside."""
    try:
        return maker(*positional, **named)
    except REFUSALS as refusal:
        last = traceback.extract_tb(refusal.__traceback__)[-1]
        inside = "uring" in Path(last.filename).parts
        # Arguments that do not fit a signature are refused where `renamed` passes them on.
        if inside and not last.line.startswith(("raise ", "return function(*args, **options)")):
            raise
        return None


def forget(name, arguments):
    """Provided memory is held on purpose, for the life of the process."""
    if name == "provide_buffers":
        try:
            ops.release_provided(arguments["memory"])
        except (LookupError, TypeError, KeyError):
            pass
