"""Listeners' set-ups, with scripted completions."""

import errno
import os
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.machines import FakeRing
from uring import (
    IllegalEvent,
    ListenerHandler,
    ListenerManager,
    ListenerNotReady,
    ListenerState,
    ListenerStep,
    MultishotHandler,
    PoolExhausted,
    abi,
    decode_listener_cqe,
    dispatch,
    for_fd,
    prepare_listener_bind,
    prepare_listener_listen,
    prepare_listener_socket,
    set_listener_ready,
)

ADDRESS = ("127.0.0.1", 0)


class Log(ListenerHandler):
    def __init__(self, answer=True):
        self.told = []
        self.answer = answer

    def on_socket_created(self, fd):
        self.told.append("socket")
        return self.answer

    def on_bound(self):
        self.told.append("bound")
        return self.answer

    def on_listening(self):
        self.told.append("listening")

    def on_error(self, op, error):
        self.told.append((op, error.errno))


@pytest.fixture
def ring():
    return FakeRing()


@pytest.fixture
def manager(ring):
    return ListenerManager(ring, ring.pools)


def new_fd():
    return os.open("/dev/null", os.O_RDONLY)


def is_open(fd):
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_driven_by_hand(ring, manager):
    handler = Log()
    op = manager.listen_tcp4(ADDRESS, 16, handler)
    assert (manager.ring, manager.pool) == (ring, ring.pools)
    assert (op.state, op.fd) == (ListenerState.INIT, -1)
    with pytest.raises(ListenerNotReady, match="INIT"):
        op.accept_multishot(MultishotHandler())

    fd = new_fd()
    step = decode_listener_cqe(ring.complete(op.ext.context, fd))
    assert isinstance(step, ListenerStep)
    assert (step.op, step.fd, step.state) == (abi.IORING_OP_SOCKET, fd, ListenerState.SOCKET)
    assert (step.error, step.ext, step.handler) == (None, op.ext, handler)
    assert op.fd == fd
    with pytest.raises(IllegalEvent, match="not bound"):
        prepare_listener_listen(op.ext, fd)
    prepare_listener_bind(op.ext, fd)
    ring.submit_extended(op.ext.context)

    step = decode_listener_cqe(ring.complete(op.ext.context, 0))
    assert (step.op, step.state) == (abi.IORING_OP_BIND, ListenerState.BIND)
    prepare_listener_listen(op.ext, fd)
    assert op.ext.fields[5] == 16
    ring.submit_extended(op.ext.context)

    step = decode_listener_cqe(ring.complete(op.ext.context, 0))
    assert (step.op, step.state) == (abi.IORING_OP_LISTEN, ListenerState.LISTEN)
    with pytest.raises(ListenerNotReady):
        op.accept_multishot(MultishotHandler())
    set_listener_ready(op.ext)
    assert op.state is ListenerState.READY
    sub = op.accept_multishot(MultishotHandler(), poll_first=True)
    assert sub.context != op.ext.context
    assert ring.names() == ["socket", "bind", "listen", "accept_multishot"]
    assert handler.told == []

    op.close()
    assert not is_open(fd)
    assert (op.state, op.fd) == (ListenerState.CLOSED, -1)
    op.close()
    with pytest.raises(ListenerNotReady, match="CLOSED"):
        op.accept_multishot(MultishotHandler())
    assert ring.pools.extended_available == 3  # the accept has the other one


def test_driven_by_the_manager(ring, manager):
    handler = Log()
    op = manager.listen_unix("/nowhere", handler=handler)
    for res in (new_fd(), 0, 0):
        assert dispatch(ring.complete(op.ext.context, res))
    assert handler.told == ["socket", "bound", "listening"]
    assert op.state is ListenerState.READY
    op.close()
    assert ring.pools.extended_available == 4


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_each_step_can_fail(ring, manager, failing):
    handler = Log()
    op = manager.listen_tcp6(("::1", 0), handler=handler)
    fd = new_fd()
    for i in range(failing + 1):
        ok = fd if i == 0 else 0
        assert dispatch(ring.complete(op.ext.context, -errno.EADDRINUSE if i == failing else ok))
    opcode = (abi.IORING_OP_SOCKET, abi.IORING_OP_BIND, abi.IORING_OP_LISTEN)[failing]
    assert handler.told == [*["socket", "bound"][:failing], (opcode, errno.EADDRINUSE)]
    assert op.state is ListenerState.FAILED
    assert len(ring.queued) == failing + 1
    with pytest.raises(ListenerNotReady, match="FAILED"):
        op.accept_multishot(MultishotHandler())
    op.close()
    assert is_open(fd) == (failing == 0)
    if failing == 0:
        os.close(fd)
    assert ring.pools.extended_available == 4


@pytest.mark.parametrize("stage", ["socket", "bind", "listen"])
def test_close_while_a_completion_is_pending(ring, manager, stage):
    op = manager.listen_tcp4(ADDRESS)
    fd = new_fd()
    results = {"socket": [], "bind": [fd], "listen": [fd, 0]}[stage]
    for res in results:
        dispatch(ring.complete(op.ext.context, res))
    ctx = op.ext.context
    op.close()
    assert op.state is ListenerState.CLOSING
    assert is_open(fd) == (stage == "socket")
    assert ring.flushes == 1  # what is queued names the descriptor by number
    op.close()
    assert (op.state, ring.pools.extended_available) == (ListenerState.CLOSING, 3)
    with pytest.raises(ListenerNotReady):
        op.set_fd(0)
    assert dispatch(ring.complete(ctx, fd if stage == "socket" else 0))
    assert not is_open(fd)
    assert ring.names()[-1] == stage
    op.close()
    assert (op.state, ring.pools.extended_available) == (ListenerState.CLOSED, 4)


def test_a_completion_taken_and_not_decoded_is_pending(ring, manager):
    op = manager.listen_tcp4(ADDRESS)
    fd = new_fd()
    cqe = ring.complete(op.ext.context, fd)
    op.close()
    assert op.state is ListenerState.CLOSING
    step = decode_listener_cqe(cqe)
    assert (step.state, step.fd) == (ListenerState.CLOSING, -1)
    assert not is_open(fd)
    assert decode_listener_cqe(cqe) is None
    op.close()
    assert op.state is ListenerState.CLOSED


def test_nothing_is_pending_on_a_ring_that_has_stopped(ring, manager):
    op = manager.listen_tcp4(ADDRESS)
    ring.complete(op.ext.context, -errno.ECANCELED)
    ring.closed = True
    op.close()
    assert (op.state, ring.pools.extended_available) == (ListenerState.CLOSED, 4)


def test_a_prepared_request_is_not_pending(ring, manager):
    op = manager.listen_tcp4(ADDRESS)
    decode_listener_cqe(ring.complete(op.ext.context, new_fd()))
    prepare_listener_bind(op.ext, op.fd)
    op.close()
    assert (op.state, ring.pools.extended_available) == (ListenerState.CLOSED, 4)


@pytest.mark.parametrize("closes", [False, True])
def test_a_handler_can_stop_the_set_up(ring, manager, closes):
    made = []
    fd = new_fd()

    def created(got):
        assert got == fd
        if closes:
            made[0].close()
        return closes

    made.append(manager.listen_tcp4(ADDRESS, handler=ListenerHandler.from_callbacks(created)))
    assert dispatch(ring.complete(made[0].ext.context, fd))
    assert ring.names() == ["socket"]
    assert made[0].state is (ListenerState.CLOSED if closes else ListenerState.SOCKET)
    made[0].close()
    assert not is_open(fd)
    assert ring.pools.extended_available == 4


def test_handlers_do_nothing_by_default(ring, manager):
    op = manager.listen_tcp4(ADDRESS)
    other = manager.listen_tcp4(ADDRESS, handler=ListenerHandler.from_callbacks())
    for one in (op, other):
        for res in (new_fd(), 0, 0):
            dispatch(ring.complete(one.ext.context, res))
        assert one.state is ListenerState.READY
        one.close()
    bad = manager.listen_tcp4(ADDRESS)
    worse = manager.listen_tcp4(ADDRESS, handler=ListenerHandler.from_callbacks())
    for one in (bad, worse):
        assert dispatch(ring.complete(one.ext.context, -errno.EMFILE))
        one.close()
    told = []
    handler = ListenerHandler.from_callbacks(
        lambda fd: True,
        lambda: told.append("bound") or True,
        lambda: told.append("listening"),
        lambda op, e: told.append(e.errno),
    )
    op = manager.listen_tcp4(ADDRESS, handler=handler)
    for res in (new_fd(), 0, -errno.EADDRINUSE):
        dispatch(ring.complete(op.ext.context, res))
    op.close()
    assert told == ["bound", errno.EADDRINUSE]


def test_full_queue_and_retry(ring, manager):
    ring.refuse = True
    with pytest.raises(PoolExhausted):
        manager.listen_tcp4(ADDRESS)
    assert ring.pools.extended_available == 4
    ring.refuse = False
    op = manager.listen_tcp4(ADDRESS)
    ring.refuse = True
    with pytest.raises(PoolExhausted):
        dispatch(ring.complete(op.ext.context, new_fd()))
    ring.refuse = False
    ring.submit_extended(op.ext.context)
    assert ring.names() == ["socket", "bind"]
    ring.refuse = True
    op.close()
    assert op.state is ListenerState.CLOSING
    dispatch(ring.complete(op.ext.context, 0))
    op.close()


def test_set_fd(ring, manager):
    op = manager.listen_tcp4(ADDRESS)
    first, second = new_fd(), new_fd()
    decode_listener_cqe(ring.complete(op.ext.context, first))
    op.set_fd(second)
    assert op.fd == second
    with pytest.raises(ValueError, match="-1"):
        op.set_fd(-1)
    with pytest.raises(TypeError):
        op.set_fd(True)
    op.close()
    assert (is_open(first), is_open(second)) == (True, False)
    os.close(first)


def test_wrong_arguments_queue_nothing(ring, manager):
    for bad in ("nowhere", ("127.0.0.1", 1 << 17), None):
        with pytest.raises((TypeError, ValueError, OverflowError)):
            manager.listen_tcp4(bad)
    for backlog in (-1, 1 << 40, "many"):
        with pytest.raises((TypeError, ValueError)):
            manager.listen_tcp4(ADDRESS, backlog)
    ext = ring.pools.extended()
    with pytest.raises(LookupError, match="prepare_listener_socket"):
        prepare_listener_bind(ext, 1)
    with pytest.raises(LookupError):
        set_listener_ready(ext)
    ring.pools.put_extended(ext)
    assert ring.queued == []
    assert ring.pools.extended_available == 4


def test_other_completions_are_not_listeners(ring, manager):
    assert decode_listener_cqe(ring.complete(for_fd(3), 0)) is None
    ext = ring.pools.extended()
    assert decode_listener_cqe(ring.complete(ext.context, 0, abi.IORING_CQE_F_MORE)) is None
    assert not manager.handle_cqe(ring.complete(for_fd(3), 0))
    prepare_listener_socket(ext, socket.AF_INET, socket.SOCK_STREAM, 0, ADDRESS, 8)
    assert ext.fields[0] == abi.IORING_OP_SOCKET


@given(st.lists(st.sampled_from(["complete", "fail", "close"]), max_size=12))
def test_any_order(events):
    ring = FakeRing(slots=1)
    op = ListenerManager(ring, ring.pools).listen_tcp4(ADDRESS)
    ctx, fds = op.ext.context, []
    for event in [*events, "complete", "close"]:
        if event == "close":
            op.close()
            assert op.fd == -1
        elif op.ext.in_flight:
            if event == "fail":
                res = -errno.EIO
            elif ring.names()[-1] == "socket":
                res = new_fd()
                fds.append(res)
            else:
                res = 0
            assert dispatch(ring.complete(ctx, res))
        assert (ring.pools.extended_available == 1) == (op.state is ListenerState.CLOSED)
        assert not (op.ext.in_flight and op.state is ListenerState.CLOSED)
    if op.ext.in_flight:
        assert dispatch(ring.complete(ctx, 0))
        op.close()
    assert op.state is ListenerState.CLOSED
    assert not any(map(is_open, fds))
