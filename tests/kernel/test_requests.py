"""Requests without a context: each owns its operation, and gives its result once."""

from __future__ import annotations

import errno
import gc
import os
import random
import select
import socket
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tests.ringside import PATIENCE, take
from uring import CQEView, NotSupported, Options, Request, Ring, RingClosed, SQEContext, abi, for_fd, ops

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

LINK = int(abi.IOSQE_IO_LINK)
SKIP = int(abi.IOSQE_CQE_SKIP_SUCCESS)
Pair = tuple[int, int]


def close_all(*fds: int) -> None:
    for fd in fds:
        os.close(fd)


# ---- one request ------------------------------------------------------------------------------------------


def test_a_request_knows_when_it_is_done_and_gives_its_result_once(ring: Ring, pipe: Pair) -> None:
    buffer = bytearray(8)
    request = ring.read(pipe[0], buffer)
    assert isinstance(request, Request)
    assert (request.done(), request.name) == (False, "read")
    with pytest.raises(RuntimeError, match="in flight"):
        request.result()
    assert ring.wait() == []
    assert not request.done()
    os.write(pipe[1], b"hello")
    (cqe,) = take(ring)
    assert cqe.request is request
    assert (request.done(), request.res, cqe.res) == (True, 5, 5)
    assert (cqe.op, cqe.fd, cqe.sqe.len) == (abi.Op.IORING_OP_READ, pipe[0], 8)
    buffer.append(0)  # its memory is free
    assert request.result() == 5
    with pytest.raises(RuntimeError, match="taken already"):
        request.result()
    assert cqe.result() == 5
    assert "read: taken" in repr(request)
    assert "read" in repr(cqe)


def test_wait_leaves_the_completions_of_others(ring: Ring, pipe: Pair, tmp_path: Path) -> None:
    others = [ring.nop(), ring.nop(result=-errno.EIO), ring.read(pipe[0], bytearray(1))]
    ring.nop(7)
    assert ring.statx(tmp_path).wait().st_size == os.stat(tmp_path).st_size
    assert [each.done() for each in others] == [True, True, False]
    with pytest.raises(TimeoutError, match="read"):
        others[2].wait(0.01)
    os.write(pipe[1], b"x")
    assert others[2].wait(PATIENCE) == 1
    assert [cqe.user_data if cqe.request is None else cqe.request for cqe in take(ring, 3)] == [
        *others[:2],
        7,
    ]
    assert others[0].wait() == 0
    with pytest.raises(OSError, match="nop") as caught:
        others[1].wait()
    assert caught.value.errno == errno.EIO
    assert ring.wait() == []


@pytest.mark.parametrize("options", [{}, {"multi_issuers": True}, {"cqe32": True}])
@pytest.mark.parametrize("order", [list, reversed])
def test_requests_waited_for_in_any_order(
    options: dict[str, bool], order: Callable[[list[Any]], Iterable[Any]]
) -> None:
    """Their completions are dropped with them, those of others stay."""
    with Ring(entries=8, **options) as ring:
        requests = [ring.nop(result=i) for i in range(20)]
        ring.nop(7)
        failing = ring.nop(result=-errno.EIO)
        assert [each.wait(PATIENCE) for each in order(requests)] == [*order([*range(20)])]
        assert [cqe.user_data for cqe in take(ring, 2)] == [7, failing.value]
        assert ring.wait() == []


def test_any_thread_asks_for_what_is_done(ring: Ring) -> None:
    done, pending = ring.nop(result=5), ring.timeout(60.0)
    ring.nop(result=6).wait(PATIENCE)
    with ThreadPoolExecutor(1) as others:
        assert others.submit(done.wait).result(PATIENCE) == 5
        with pytest.raises(RuntimeError, match="belongs to the thread"):
            others.submit(pending.wait).result(PATIENCE)
    assert ring.wait() == [], "its completion went with it"


def test_waiting_drops_all_completions_of_a_multishot(ring: Ring, pipe: Pair) -> None:
    polling = ring.poll_add_multishot(pipe[0], select.POLLIN)
    os.write(pipe[1], b"x")
    assert ring.nop().wait(PATIENCE) == 0
    polling.cancel()
    with pytest.raises(OSError, match="poll"):
        polling.wait(PATIENCE)
    assert polling not in [cqe.request for cqe in ring.drain(PATIENCE)]


def test_results_have_the_type_of_their_operation(ring: Ring, tmp_path: Path) -> None:
    path = tmp_path / "file"
    fd = ring.openat(path, flags=os.O_RDWR | os.O_CREAT).wait()
    assert ring.write(fd, b"data", offset=0).wait() == 4
    assert ring.statx(path).wait().st_size == 4
    source, sink = ring.pipe().wait()
    with socket.create_server(("127.0.0.1", 0)) as server:
        made = ring.tcp4_socket().wait()
        assert ring.connect(made, socket.AF_INET, server.getsockname()).wait() == 0
        accepted, peer = ring.accept(server, with_address=True).wait()
        with socket.socket(fileno=made) as client:
            assert peer == client.getsockname()
    close_all(fd, source, sink, accepted)
    with pytest.raises(FileNotFoundError, match="openat") as caught:
        ring.openat(tmp_path / "missing").wait()
    assert caught.value.filename == str(tmp_path / "missing")


def test_many_of_a_kind_in_flight_are_never_mixed_up(tmp_path: Path) -> None:
    order = random.Random(5)
    with Ring(entries=64) as ring:
        paths = [tmp_path / str(i) for i in range(40)]
        for i, path in enumerate(paths):
            path.write_bytes(bytes(i))
        stats = {i: ring.statx(path) for i, path in enumerate(paths)}
        missing = {i: ring.statx(tmp_path / f"no {i}") for i in range(10)}
        pipes = [ring.pipe() for _ in range(10)]
        for cqe in ring.completions(PATIENCE):
            assert cqe.request is not None
            assert cqe.request.done()
        for i in order.sample(sorted(stats), len(stats)):
            assert stats[i].result().st_size == i
        for i, request in missing.items():
            with pytest.raises(FileNotFoundError) as caught:
                request.result()
            assert caught.value.filename == str(tmp_path / f"no {i}")
        ends = {fd for each in pipes for fd in each.result()}
        assert len(ends) == 20
        close_all(*ends)


def test_a_request_without_another_reference(ring: Ring, pipe: Pair) -> None:
    seen = weakref.ref(ring.read(pipe[0], memoryview(bytearray(1 << 16))))
    ring.flush()
    gc.collect()
    os.write(pipe[1], bytes(1 << 16))
    (cqe,) = take(ring)
    assert cqe.request is seen()
    assert cqe.result() == 1 << 16
    del cqe
    assert seen() is None


def test_cancel(ring: Ring, pipe: Pair) -> None:
    request = ring.read(pipe[0], bytearray(1))
    cancel = request.cancel()
    assert cancel.wait() == 0
    with pytest.raises(OSError, match="read") as caught:
        request.wait()
    assert caught.value.errno == errno.ECANCELED
    with pytest.raises(FileNotFoundError):
        request.cancel().wait()
    assert ring.wait() == []


def test_a_request_that_completes_many_times(ring: Ring) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        request = ring.submit_accept_multishot(server)
        ring.flush()
        for _ in range(3):
            with socket.create_connection(server.getsockname()):
                (cqe,) = take(ring)
                assert cqe.request is request
                assert not request.done()
                os.close(cqe.result())
        request.cancel()
        for cqe in ring.completions(PATIENCE):
            assert cqe.has_more is False
        with pytest.raises(OSError, match="accept") as caught:
            request.result()
        assert caught.value.errno == errno.ECANCELED


def test_a_zero_copy_send_is_done_with_its_notification(ring: Ring) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(server.getsockname()) as client, server.accept()[0] as peer:
            data = bytearray(b"hello")
            request = ring.send_zc(client, data)
            assert request.wait(PATIENCE) == 5
            assert request.flags & abi.IORING_CQE_F_NOTIF
            data.append(0)
            assert peer.recv(9) == b"hello"


def test_a_chosen_slot_is_the_result(ring: Ring) -> None:
    ring.register_files_sparse(4)
    requests = [ring.tcp4_socket_direct(file_index=slot) for slot in (2, 0, 3)]
    assert [request.wait() for request in requests] == [2, 0, 3]


# ---- two forms of a method --------------------------------------------------------------------------------


def test_with_a_context_the_context_comes_back(ring: Ring, pipe: Pair) -> None:
    buffer = bytearray(4)
    for queue, wanted in (
        (lambda: ring.nop(7), 7),
        (lambda: ring.nop(ctx=7), 7),
        (lambda: ring.write(7, pipe[1], b"data"), 7),
        (lambda: ring.write(pipe[1], b"data", ctx=7), 7),
        (lambda: ring.write(7, fd=pipe[1], data=b"data"), 7),
        (lambda: ring.read(for_fd(pipe[0]), pipe[0], buffer), None),
        (lambda: ring.read(None, pipe[0], buffer), None),
        (lambda: ring.read(7, pipe[0], buffer=buffer), 7),
        (lambda: ring.write(7, pipe[1], b"data"), 7),
        (lambda: ring.read(7, fd=pipe[0], buffer=buffer), 7),
        (lambda: ring.submit(ops.nop(), 7), 7),
        (lambda: ring.submit(ops.nop(task_work=True), None), None),
    ):
        context = queue()
        (cqe,) = take(ring)
        assert cqe.request is None
        assert cqe.user_data == context
        assert context == wanted or (wanted is None and type(context) is SQEContext)


def test_without_one_the_arguments_are_the_operations(ring: Ring, pipe: Pair) -> None:
    buffer = bytearray(4)
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        for queue in (
            lambda: ring.nop(),
            lambda: ring.nop(result=3),
            lambda: ring.write(pipe[1], b"data"),
            lambda: ring.read(pipe[0], buffer),
            lambda: ring.write(fd=pipe[1], data=b"data"),
            lambda: ring.read(pipe[0], buffer=buffer, n=4),
            lambda: ring.listen(sock),
            lambda: ring.listen(sock, 5),
            lambda: ring.listen(sock.fileno(), backlog=5),
            lambda: ring.getsockopt(sock, socket.SOL_SOCKET, socket.SO_ACCEPTCONN),
            lambda: ring.unlinkat("/proc/missing", 0),
            lambda: ring.submit(ops.nop()),
            lambda: ring.request(ops.nop()),
        ):
            request = queue()
            assert isinstance(request, Request)
            (cqe,) = take(ring)
            assert cqe.request is request


def test_a_wrong_call_says_how_it_is_done(ring: Ring) -> None:
    for call in (
        lambda: ring.read("x"),
        lambda: ring.read(None),
        lambda: ring.close(None),
        lambda: ring.close(),
        lambda: ring.write(1, 2, 3, 4),
        lambda: ring.nop("x"),
    ):
        with pytest.raises(TypeError) as caught:
            call()
        (note,) = caught.value.__notes__
        assert "returns a request; with a context it is ring." in note
    with pytest.raises(TypeError, match=r"uring\.ops is needed"):
        ring.submit("nop")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match=r"uring\.ops is needed"):
        ring.submit_all(["nop"])  # type: ignore[list-item]
    assert ring.in_flight == 0


def test_a_silent_request_needs_a_context(ring: Ring) -> None:
    with pytest.raises(ValueError, match="give a direct context"):
        ring.nop(sqe_flags=SKIP)
    with Ring(entries=8, notify_succeed=True) as loud:
        assert loud.nop(sqe_flags=SKIP).wait() == 0
    assert ring.in_flight == 0


def test_what_is_refused_is_not_kept(ring: Ring, pipe: Pair) -> None:
    data = bytearray(4)
    if not ring.supports(abi.IORING_OP_NOP128):
        with pytest.raises(NotSupported):
            ring.nop128()
    with pytest.raises(LookupError):
        ring.nop(ring.read(pipe[0], data).context)
    ring.stop()
    with pytest.raises(RingClosed):
        ring.nop()


# ---- many, and chains -------------------------------------------------------------------------------------


def test_submit_all(pipe: Pair) -> None:
    with Ring(entries=8) as ring:
        buffers = [bytearray(1) for _ in range(40)]  # more than the queue holds
        requests = ring.submit_all(ops.read(pipe[0], each) for each in buffers)
        os.write(pipe[1], bytes(range(40)))
        cqes = ring.drain(PATIENCE)
        assert {cqe.request for cqe in cqes} == {*requests}
        assert sum(request.result() for request in requests) == 40
        assert {each[0] for each in buffers} == {*range(40)}


@pytest.mark.parametrize("options", [{}, {"multi_issuers": True}, {"cqe32": True}, {"cqe_mixed": True}])
def test_a_batch_as_one_is_a_request(options: dict[str, bool], pipe: Pair) -> None:
    with Ring(entries=8, **options) as ring:
        batch = ring.batch(ops.read(pipe[0], bytearray(9)) for _ in range(2))
        first = ring.submit_as_one(batch)
        os.write(pipe[1], bytes(18))
        ring.drain(PATIENCE)
        second = ring.submit_as_one(batch)
        os.write(pipe[1], bytes(10))
        assert sorted(second.wait(PATIENCE)) == [1, 9]
        assert first.result() == [9, 9], "of the first, though its memory was used again"


def test_a_chain_is_a_block(ring: Ring, tmp_path: Path) -> None:
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    room = bytearray(4)
    with ring.chain() as chain:
        wrote = ring.write(fd, b"kept", offset=0)
        synced = ring.fsync(fd)
        ring.read(fd, room, offset=0)
        assert ring.in_flight == 0, "nothing is queued before the end"
    assert (len(chain), list(chain)[:2]) == (3, [wrote, synced])
    assert [cqe.request for cqe in ring.drain(PATIENCE)] == chain.requests
    assert [request.result() for request in chain] == [4, 0, 4]
    assert room == b"kept"
    os.close(fd)


def test_a_short_read_breaks_a_chain(ring: Ring, pipe: Pair) -> None:
    os.write(pipe[1], b"ab")
    with ring.chain() as chain:
        ring.read(pipe[0], bytearray(4))
        ring.nop()
    ring.drain(PATIENCE)
    short, after = chain
    assert short.result() == 2
    with pytest.raises(OSError, match="nop") as caught:
        after.result()
    assert caught.value.errno == errno.ECANCELED
    os.write(pipe[1], b"ab")
    with ring.chain(hard=True) as chain:
        ring.read(pipe[0], bytearray(4))
        ring.nop()
    ring.drain(PATIENCE)
    assert [request.result() for request in chain] == [2, 0]


def test_a_chain_with_a_limit_and_one_that_drains(ring: Ring, pipe: Pair) -> None:
    with ring.chain():
        slow = ring.read(pipe[0], bytearray(1))
        limit = ring.link_timeout(0.01)
    ring.drain(PATIENCE)
    with pytest.raises(OSError, match="read"):
        slow.result()
    with pytest.raises(TimeoutError):
        limit.result()
    first = ring.read(pipe[0], bytearray(1))
    with ring.chain(drain=True):
        last = ring.nop()
    ring.flush()
    assert ring.wait() == []
    assert not last.done()
    os.write(pipe[1], b"x")
    assert [cqe.request for cqe in ring.drain(PATIENCE)] == [first, last]


def test_a_chain_that_is_left_by_an_exception_queues_nothing(ring: Ring, pipe: Pair) -> None:
    data = bytearray(1)
    with pytest.raises(KeyError), ring.chain():
        request = ring.read(pipe[0], data)
        raise KeyError
    assert ring.in_flight == 0
    data.append(0)
    assert request.done()
    with pytest.raises(RuntimeError, match="not submitted"):
        request.result()
    with pytest.raises(ValueError, match="1 to 8"), ring.chain() as chain:
        for _ in range(9):
            ring.nop()
    assert ring.in_flight == 0
    assert all(each.done() for each in chain)
    # Nor does one with a request that cannot be sent, though the first could.
    with pytest.raises(ValueError, match="give a direct context"), ring.chain() as chain:
        ring.read(pipe[0], data, sqe_flags=SKIP)
        ring.nop(sqe_flags=SKIP)
    with pytest.raises(ValueError, match="as a whole"), ring.chain() as chain:
        ring.read(pipe[0], data)
        ring.nop(sqe_flags=SKIP)
    assert ring.in_flight == 0
    assert all(each.done() for each in chain)
    data.append(0)
    with pytest.raises(RuntimeError, match="do not nest"), ring.chain(), ring.chain():
        pass
    assert ring.nop().wait() == 0
    with ring.chain():
        pass
    assert ring.in_flight == 0


def test_a_chain_is_for_one_block(ring: Ring) -> None:
    with ring.chain() as chain:
        first = ring.nop()
    with pytest.raises(RuntimeError, match="make another"), chain:
        ring.nop()
    assert ring.in_flight == 1
    assert first.wait() == 0


def test_a_request_of_a_block_is_not_waited_for_in_it(ring: Ring) -> None:
    with ring.chain() as chain:
        request = ring.nop()
        for timeout in (None, 0.0):
            with pytest.raises(RuntimeError, match="wait after it"):
                request.wait(timeout)
    assert [each.wait() for each in chain] == [0]


# ---- loops ------------------------------------------------------------------------------------------------


def test_loops_over_a_ring_that_cannot_be_used() -> None:
    ring = Ring(entries=8)
    loops = (lambda: list(ring.completions()), ring.drain)
    for loop in loops:
        with pytest.raises(RuntimeError, match="not started"):
            loop()
    ring.start()
    with ThreadPoolExecutor(1) as other:
        for loop in loops:
            with pytest.raises(RuntimeError, match="belongs to the thread"):
                other.submit(loop).result()
    ring.stop()
    for loop in loops:
        with pytest.raises(RingClosed):
            loop()


def test_a_loop_over_completions(ring: Ring, pipe: Pair) -> None:
    left = 5
    ring.nop()
    seen = []
    for cqe in ring.completions(PATIENCE):
        seen.append(cqe)
        if left:
            left -= 1
            ring.nop()
    assert len(seen) == 6
    assert all(type(cqe) is CQEView for cqe in seen)
    assert list(ring.completions()) == []
    ring.read(pipe[0], bytearray(1))
    assert list(ring.completions(timeout=0.01)) == [], "none came in time"
    assert ring.in_flight == 1


def test_a_loop_that_is_left_keeps_what_it_did_not_see(ring: Ring) -> None:
    requests = ring.submit_all([ops.nop()] * 5)
    for cqe in ring.completions(PATIENCE):
        assert cqe.request is requests[0]
        break
    assert [cqe.request for cqe in ring.drain(PATIENCE)] == requests[1:]
    assert ring.drain() == []


def test_drain_with_a_limit(ring: Ring, pipe: Pair) -> None:
    done, waits = ring.nop(), ring.read(pipe[0], bytearray(1))
    with pytest.raises(TimeoutError, match="1 requests are in flight"):
        ring.drain(0.01)
    os.write(pipe[1], b"x")
    assert [cqe.request for cqe in ring.drain(PATIENCE)] == [done, waits]


# ---- stopping, threads ------------------------------------------------------------------------------------


def test_stop_with_requests(pipe: Pair) -> None:
    before = set(os.listdir("/proc/self/fd"))
    with Ring(entries=8) as ring:
        taken = ring.openat("/")
        take(ring)
        ring.flush()
        made, waits = [ring.openat("/"), ring.pipe()], ring.read(pipe[0], bytearray(1))
        ring.flush()
    fd = taken.result()
    os.close(fd)
    assert set(os.listdir("/proc/self/fd")) <= before
    for request in made:
        assert request.done()
        with pytest.raises((RingClosed, OSError)):
            request.result()
    with pytest.raises(OSError, match="read"):
        waits.result()


def test_threads_wait_for_their_own_requests(pipe: Pair) -> None:
    with Ring(Options(entries=32, multi_issuers=True)) as ring:
        failed: list[BaseException] = []

        def work(n: int) -> None:
            try:
                for i in range(50):
                    assert ring.nop(result=n * 1000 + i).wait(PATIENCE) == n * 1000 + i
                    with ring.chain() as chain:
                        ring.nop(result=n)
                        ring.nop(result=i)
                    assert [request.wait(PATIENCE) for request in chain] == [n, i]
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []


def test_another_thread_may_not_make_requests(ring: Ring) -> None:
    caught: list[Exception] = []

    def work() -> None:
        for call in (ring.nop, lambda: ring.submit_all([]), lambda: ring.chain().__enter__()):
            try:
                call()
            except RuntimeError as error:
                caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert len(caught) == 3
