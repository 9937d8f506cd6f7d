"""Listeners set up on the running kernel, up to an echo."""

from __future__ import annotations

import errno
import os
import socket

import pytest

from uring import (
    ListenerHandler,
    ListenerManager,
    ListenerState,
    MultishotHandler,
    Ring,
    decode_listener_cqe,
    dispatch,
    prepare_listener_bind,
    prepare_listener_listen,
    prepare_listener_socket,
    set_listener_ready,
)


@pytest.fixture
def ring():
    with Ring(entries=8) as ring:
        yield ring
        assert ring.in_flight == 0
        assert ring.pools.extended_available == ring.pools.capacity


@pytest.fixture
def manager(ring):
    return ListenerManager(ring, ring.pools)


def run(ring, until):
    while not until():
        cqes = ring.wait(timeout=30.0)
        assert cqes, "the kernel did not answer"
        for cqe in cqes:
            assert dispatch(cqe)


def address_of(op):
    with socket.socket(fileno=os.dup(op.fd)) as view:
        return view.family, view.getsockname()


@pytest.mark.parametrize("kind", ["tcp4", "tcp6", "unix"])
def test_listen_and_accept(ring, manager, kind, tmp_path):
    told = []
    handler = ListenerHandler.from_callbacks(
        lambda fd: told.append("socket") or True,
        lambda: told.append("bound") or True,
        lambda: told.append("listening"),
    )
    if kind == "tcp4":
        op = manager.listen_tcp4(("127.0.0.1", 0), 16, handler)
    elif kind == "tcp6":
        op = manager.listen_tcp6(("::1", 0), 16, handler)
    else:
        op = manager.listen_unix(str(tmp_path / "s"), 16, handler)
    run(ring, lambda: op.state is ListenerState.READY)
    assert told == ["socket", "bound", "listening"]
    family, address = address_of(op)
    accepted = []
    sub = op.accept_multishot(
        MultishotHandler.from_callbacks(lambda step: accepted.append(step.cqe.res) or 0)
    )
    ring.flush()
    with socket.socket(family) as client:
        client.settimeout(30)
        client.connect(address)
        run(ring, lambda: accepted)
        with socket.socket(fileno=accepted.pop(0)) as server:
            server.sendall(b"hello")
            assert client.recv(5) == b"hello"
    sub.cancel()
    run(ring, lambda: not sub.active)
    op.close()
    assert op.state is ListenerState.CLOSED
    with socket.socket(family) as client, pytest.raises((ConnectionRefusedError, FileNotFoundError)):
        client.connect(address)


def test_driven_by_hand(ring):
    ext = ring.ext_sqe()
    handler = ListenerHandler()
    address = ("127.0.0.1", 0)
    prepare_listener_socket(ext, socket.AF_INET, socket.SOCK_STREAM, 0, address, 8, handler)
    ring.submit_extended(ext.context)
    states = []
    while not states or states[-1] is not ListenerState.LISTEN:
        (cqe,) = ring.wait(timeout=30.0)
        step = decode_listener_cqe(cqe)
        assert step is not None
        assert (step.error, step.handler) == (None, handler)
        states.append(step.state)
        if step.state is ListenerState.SOCKET:
            prepare_listener_bind(step.ext, step.fd)
            ring.submit_extended(step.ext.context)
        elif step.state is ListenerState.BIND:
            prepare_listener_listen(step.ext, step.fd)
            ring.submit_extended(step.ext.context)
    set_listener_ready(ext)
    assert states == [ListenerState.SOCKET, ListenerState.BIND, ListenerState.LISTEN]
    with socket.socket(fileno=step.fd) as listener:
        assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
    ring.put_ext_sqe(ext)


def test_an_address_in_use(ring, manager):
    errors = []
    handler = ListenerHandler.from_callbacks(on_error=lambda op, error: errors.append(error))
    with socket.create_server(("127.0.0.1", 0)) as other:
        op = manager.listen_tcp4(other.getsockname(), handler=handler)
        run(ring, lambda: op.state is ListenerState.FAILED)
        assert errors[0].errno == errno.EADDRINUSE
        assert str(other.getsockname()[1]) in str(errors[0])
    op.close()
    assert op.state is ListenerState.CLOSED


@pytest.mark.parametrize("steps", [0, 1, 2])
@pytest.mark.parametrize("sent", [False, True])
def test_close_with_a_completion_pending(ring, manager, steps, sent):
    before = set(os.listdir("/proc/self/fd"))
    op = manager.listen_tcp4(("127.0.0.1", 0))
    for _ in range(steps):
        (cqe,) = ring.wait(timeout=30.0)
        assert dispatch(cqe)
    if sent:
        ring.flush()
    op.close()
    assert op.state is ListenerState.CLOSING
    (cqe,) = ring.wait(timeout=30.0)
    assert dispatch(cqe)
    assert op.state is ListenerState.CLOSING
    op.close()
    assert op.state is ListenerState.CLOSED
    assert set(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_close_with_a_completion_that_nobody_decodes(ring, manager, steps):
    before = set(os.listdir("/proc/self/fd"))
    available = ring.pools.extended_available
    op = manager.listen_tcp4(("127.0.0.1", 0))
    for _ in range(steps):
        (cqe,) = ring.wait(timeout=10.0)
        assert dispatch(cqe)
    op.close()
    assert len(ring.wait(timeout=10.0)) == 1
    op.close()
    assert op.state is ListenerState.CLOSED
    assert ring.pools.extended_available == available
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_listener_ends_with_its_block(ring, manager):
    before = set(os.listdir("/proc/self/fd"))
    available = ring.pools.extended_available
    with manager.listen_tcp4(("127.0.0.1", 0)) as op:
        other = ring.nop()
        ring.flush()
    assert op.state is ListenerState.CLOSED
    assert [cqe.request for cqe in ring.drain(10.0)] == [other]
    assert ring.pools.extended_available == available
    assert set(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("answer", [None, True, False])
def test_only_false_leaves_a_set_up(ring, manager, answer):
    seen = []
    handler = ListenerHandler.from_callbacks(
        on_socket_created=lambda fd: seen.append("socket") or answer,
        on_bound=lambda: seen.append("bound") or answer,
        on_listening=lambda: seen.append("listening"),
    )
    with manager.listen_tcp4(("127.0.0.1", 0), handler=handler):
        for cqe in ring.completions(10.0):
            assert dispatch(cqe)
    assert seen == (["socket"] if answer is False else ["socket", "bound", "listening"])


def test_stop_the_ring_with_a_set_up_in_flight():
    before = set(os.listdir("/proc/self/fd"))
    with Ring(entries=8) as ring:
        op = ListenerManager(ring, ring.pools).listen_tcp4(("127.0.0.1", 0))
        ring.flush()
    op.close()
    assert op.state is ListenerState.CLOSED
    assert set(os.listdir("/proc/self/fd")) == before
