"""One operation at a time against the running kernel.

``kernel`` is a ring with a small loop; at the end of a test nothing may be in flight. A test names the
opcodes that it exercises with ``@pytest.mark.opcodes("READ", …)``. This module checks that it submitted them,
and test_ops_coverage.py that the tests together exercise every opcode.
"""

import errno
import os
import socket
import time
from dataclasses import dataclass, field

import pytest

from uring import Ring, abi, opcodes
from uring.errors import error_from_result
from uring.kernel.lib import ffi
from uring.kernel.memory import pin
from uring.kernel.refusals import PASSING
from uring.kernel.ring import CQE, CQE_BIG, KernelRing

SETUP = int(
    abi.IORING_SETUP_SINGLE_ISSUER
    | abi.IORING_SETUP_DEFER_TASKRUN
    | abi.IORING_SETUP_TASKRUN_FLAG
    | abi.IORING_SETUP_SUBMIT_ALL
    | abi.IORING_SETUP_NO_SQARRAY
)
BIG = int(abi.IORING_SETUP_CQE32 | abi.IORING_SETUP_CQE_MIXED)
MORE = int(abi.IORING_CQE_F_MORE)
PATIENCE = 60.0


@dataclass
class Request:
    """An operation in flight, and its completions so far as (res, flags)."""

    op: object
    user_data: int
    completions: list = field(default_factory=list)
    extra: list = field(default_factory=list)
    seen: int = 0
    ended: bool = False

    @property
    def res(self):
        return self.completions[-1][0]

    @property
    def flags(self):
        return self.completions[-1][1]


class Kernel:
    """A ring, the requests in flight on it, and their results."""

    def __init__(self, flags=SETUP, entries=32, **options):
        self.ring = KernelRing(entries, flags, **options)
        self.requests = {}
        self.strays = []
        self.opcodes = set()
        self._next = 1
        self._unpack = CQE_BIG if flags & BIG else CQE

    def start(self, op):
        """Queues an operation."""
        request = Request(op, self._next)
        self._next += 1
        self.requests[request.user_data] = request
        self.opcodes.add(op.opcode)
        assert self.ring.put_op(request.user_data, op) == 0
        return request

    def step(self, timeout=0.0):
        """Submits what is queued and takes the completions there are."""
        n = self.ring.cycle(timeout)
        if n == -errno.EINTR or n in PASSING:
            return
        assert n >= 0, error_from_result(n, "io_uring_enter")
        for user_data, res, flags, *extra in self._unpack.iter_unpack(self.ring.out[: n * self._unpack.size]):
            request = self.requests.get(user_data)
            if request is None:
                self.strays.append((user_data, res, flags))
                continue
            request.completions.append((res, flags))
            request.extra.append(tuple(extra))
            request.ended = not flags & MORE

    def until(self, condition):
        """Steps until the condition holds."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, "the kernel did not answer"
            self.step(0.1)

    def next_of(self, request):
        """Waits for a multishot's next completion, as (res, flags)."""
        self.until(lambda: len(request.completions) > request.seen)
        request.seen += 1
        return request.completions[request.seen - 1]

    def finish(self, request):
        """Waits for the last completion; the result of the first."""
        self.until(lambda: request.ended)
        del self.requests[request.user_data]
        return request.completions[0][0]

    def result(self, op):
        """Runs an operation to its end: the completion's number."""
        return self.finish(self.start(op))

    def run(self, op):
        """Runs an operation to its end: its Python result, or the exception."""
        return self.value(op, self.result(op))

    def value(self, op, res):
        if res < 0:
            raise op.error(res)
        return res if op.decode is None else op.decode(res)

    def register_files(self, *fds):
        """Registers descriptors as slots 0 and on; -1 leaves a slot free."""
        self.ring.register(abi.IORING_REGISTER_FILES, ffi.new("int32_t[]", list(fds)), len(fds))

    def register_buffers(self, *buffers):
        """Registers buffers as 0 and on."""
        vector = ffi.new("uint64_t[]", [word for buffer in buffers for word in pin(buffer)[:2]])
        self.ring.register(abi.IORING_REGISTER_BUFFERS, vector, len(buffers))

    def close(self):
        try:
            self.step()
            assert not self.requests
            assert self.ring.inflight == 0
        finally:
            self.ring.close()


def pytest_configure(config):
    config.addinivalue_line("markers", "opcodes(*names): the io_uring opcodes that the test exercises")


@pytest.fixture
def tcp_pair():
    """The client's end of a connection, and the server's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    with client, server:
        yield client, server


@pytest.fixture
def open_kernel(request):
    """Makes rings as asked for; closes them and checks what was submitted."""
    opened = []

    def make(*args, **options):
        opened.append(Kernel(*args, **options))
        return opened[-1]

    yield make
    for kernel in opened:
        kernel.close()
    submitted = set().union(*(kernel.opcodes for kernel in opened))
    for mark in request.node.iter_markers("opcodes"):
        named = {opcodes.by_name(name).number for name in mark.args}
        assert named <= submitted, "the test does not exercise every opcode it names"


@pytest.fixture
def kernel(open_kernel):
    """A ring set up as Trio runs use it."""
    return open_kernel()


@pytest.fixture
def ring():
    with Ring(entries=8) as ring:
        yield ring


@pytest.fixture
def pipe():
    ends = os.pipe()
    yield ends
    for fd in ends:
        try:
            os.close(fd)
        except OSError:
            pass
