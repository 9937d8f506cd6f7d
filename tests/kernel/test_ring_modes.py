"""Every way to set a ring up, and the machine refusing."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
import time
import warnings

import pytest

from tests.ringside import take
from uring import NotSupported, PoolExhausted, Ring, RingUnavailable, abi, ops
from uring.kernel import KernelRing

MODES = {
    "default": {},
    "with an SQ array": {"indirect_submission_queue": True},
    "several issuers": {"multi_issuers": True},
    "several issuers with an SQ array": {"multi_issuers": True, "indirect_submission_queue": True},
    "SQPOLL": {"sqpoll": True, "sq_thread_idle": 10},
    "SQPOLL bound to a processor": {"sqpoll": True, "sq_thread_cpu": 0},
    "SQPOLL with several issuers": {"sqpoll": True, "multi_issuers": True},
    "SQE128": {"sqe128": True},
    "CQE32": {"cqe32": True},
    "CQE_MIXED": {"cqe_mixed": True},
    "SQE128 and CQE32": {"sqe128": True, "cqe32": True},
    "NO_MMAP": {"no_mmap": True},
    "NO_MMAP, wide": {"no_mmap": True, "sqe128": True, "cqe32": True, "cq_entries": 256},
    "NO_MMAP with an SQ array": {"no_mmap": True, "indirect_submission_queue": True},
    "without a descriptor": {"no_mmap": True, "registered_fd": True},
    "stopping at errors": {"submit_all": False},
    "clamped": {"entries": 1 << 20, "clamp": True},
    "large": {"entries": 4096, "cq_entries": 16384},
}


@pytest.fixture(params=MODES, ids=lambda name: name.replace(" ", "-"))
def ring(request):
    with Ring(**{"entries": 8, **MODES[request.param]}) as ring:
        yield ring


def test_requests_and_completions(ring, tmp_path):
    path = tmp_path / "f"
    path.write_bytes(bytes(range(256)) * 4)
    with path.open("rb") as file:
        data = [bytearray(16) for _ in range(40)]
        for i, each in enumerate(data):
            while True:
                try:
                    ring.read(i, file.fileno(), each, offset=i * 16)
                    break
                except PoolExhausted:
                    time.sleep(0.001)
        found = take(ring, 40)
        assert {c.user_data: c.res for c in found} == dict.fromkeys(range(40), 16)
        assert b"".join(data) == (bytes(range(256)) * 4)[:640]
    for each in data:
        each.append(0)
    assert ring.in_flight == 0


def test_chains_and_cancelling(ring):
    read, write = os.pipe()
    ring.submit_linked([(ops.read(read, bytearray(1)), 1), (ops.link_timeout(0.02), 2)])
    assert {c.user_data: c.res for c in take(ring, 2)} == {1: -errno.ECANCELED, 2: -errno.ETIME}
    ring.read(3, read, bytearray(1))
    ring.flush()
    ring.async_cancel(4, 3)
    assert {c.user_data: c.res for c in take(ring, 2)} == {3: -errno.ECANCELED, 4: 0}
    data = bytearray(4)
    ring.read(5, read, data)
    ring.flush()
    os.write(write, b"abcd")
    assert take(ring, 1)[0].res == 4
    assert data == b"abcd"
    os.close(read)
    os.close(write)


def test_stop_in_every_mode(ring):
    read, write = os.pipe()
    data = bytearray(4)
    ring.read(1, read, data)
    ring.timeout(2, 1000.0)
    ring.stop()
    data.append(1)
    os.close(read)
    os.close(write)


@pytest.mark.parametrize("mode", ["cqe32", "cqe_mixed"])
def test_wide_completions(mode):
    with Ring(entries=8, **{mode: True}) as ring:
        for i in range(50):
            ring.nop(2 * i, extra=(1 << 63, i))
            ring.nop(2 * i + 1)
            for cqe in take(ring, 2):
                assert cqe.big_cqe == ((1 << 63, i) if cqe.user_data % 2 == 0 else (0, 0))
        assert ring.features.cqe_bytes == (32 if mode == "cqe32" else 16)


def test_narrow_completions_have_no_second_half():
    with Ring(entries=8) as ring:
        ring.nop(1)
        assert ring.wait(timeout=30.0)[0].big_cqe == (0, 0)
        ring.nop(2, extra=(1, 2))
        assert ring.wait(timeout=30.0)[0].res == -errno.EINVAL


@pytest.mark.parametrize("options", [{"iopoll": True}, {"iopoll": True, "hybrid_polling": True}])
def test_polled_devices(options, tmp_path):
    """Reads fail where this machine's disk has no poll queues; the ring works nevertheless."""
    path = tmp_path / "f"
    path.write_bytes(bytes(4096))
    with Ring(entries=8, **options) as ring, path.open("rb") as file:
        ring.nop(1)
        assert take(ring, 1)[0].res in (0, -errno.EINVAL)
        ring.read(2, file.fileno(), bytearray(4096), offset=0)
        assert take(ring, 1)[0].res in (4096, -errno.EOPNOTSUPP)


def test_shared_workers():
    with (
        Ring(entries=8) as first,
        Ring(entries=8, attach_wq=first) as second,
        Ring(entries=8, attach_wq=first.fileno()) as third,
    ):
        for ring in (second, third):
            assert ring.features.setup_flags & abi.IORING_SETUP_ATTACH_WQ
            ring.nop(1)
            assert take(ring, 1)[0].res == 0
    with open("/dev/null") as file, pytest.raises(OSError):
        Ring(entries=8, attach_wq=file)


def test_128_byte_entries_carry_long_commands():
    with Ring(entries=8, sqe128=True) as ring:
        assert ring.features.sqe_bytes == 128
        if not ring.supports(abi.IORING_OP_NOP128):
            with pytest.raises(NotSupported, match=r"6\.19"):
                ring.nop128(1)
        with open("/dev/null") as file:
            ring.uring_cmd(1, file, 0, b"x" * 80)
            assert take(ring, 1)[0].res == 0, "/dev/null takes any command"
            with pytest.raises(ValueError):
                ring.uring_cmd(1, file, 0, b"x" * 81)
    with Ring(entries=8) as ring, open("/dev/null") as file:
        with pytest.raises(ValueError):
            ring.uring_cmd(1, file, 0, b"x" * 17)
        assert ring.in_flight == 0


def test_a_ring_without_descriptor_registers():
    with Ring(entries=8, no_mmap=True, registered_fd=True) as ring:
        ring.register_files_sparse(4)
        group = ring.register_buf_ring(4, 1, 64)
        read, write = os.pipe()
        os.write(write, b"hello")
        ring.read(1, read, buffer_group=1)
        cqe = take(ring, 1)[0]
        assert bytes(group.views[cqe.buf_id][: cqe.res]) == b"hello"
        os.close(read)
        os.close(write)


def test_restrictions():
    ring = Ring(entries=8)
    ring.register_restrictions(
        [
            (abi.IORING_RESTRICTION_SQE_OP, abi.IORING_OP_NOP),
            (abi.IORING_RESTRICTION_REGISTER_OP, abi.IORING_REGISTER_PROBE),
        ]
    )
    with pytest.raises(OSError) as caught:
        ring.register_restrictions([(abi.IORING_RESTRICTION_SQE_OP, abi.IORING_OP_READ)])
    assert caught.value.errno == errno.EBUSY
    with ring:
        ring.nop(1)
        ring.read(2, 0, bytearray(1))
        assert {c.user_data: c.res for c in take(ring, 2)} == {1: 0, 2: -errno.EACCES}
        with pytest.raises(PermissionError):
            ring.register_files_sparse(1)
    with Ring(entries=8) as started, pytest.raises(OSError) as caught:
        started.register_restrictions([(abi.IORING_RESTRICTION_SQE_OP, abi.IORING_OP_READ)])
    assert caught.value.errno == errno.EBADFD


def in_child(function) -> str:
    """What a function raises in a forked child, as text."""
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        answer = "nothing was raised"
        try:
            function()
        except BaseException as error:
            answer = f"{type(error).__name__}: {error}"
        finally:
            os.write(write, answer.encode())
            os._exit(0)
    os.close(write)
    os.waitpid(pid, 0)
    with os.fdopen(read) as answer:
        return answer.read()


def test_memory_of_a_ring_that_was_refused_is_given_back():
    """Its entries find room below the limit, its queues do not."""

    def attempt():
        import resource

        def used() -> int:
            with open("/proc/self/statm") as statm:
                return int(statm.read().split()[0]) * resource.getpagesize()

        entries = 32768  # 2 MiB for the entries; more than 1 MiB for the queues
        before = used()
        for _ in range(8):
            resource.setrlimit(
                resource.RLIMIT_AS, (used() + 64 * entries + (1 << 19), resource.RLIM_INFINITY)
            )
            with pytest.raises(OSError):
                KernelRing(entries, int(abi.IORING_SETUP_NO_MMAP))
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        return used() - before

    def report():
        raise ValueError("all of it" if attempt() < 64 * 32768 else "some of it stayed")

    assert in_child(report) == "ValueError: all of it"


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to become somebody else")
def test_the_memory_limit_is_named():
    def attempt():
        import resource

        resource.setrlimit(resource.RLIMIT_MEMLOCK, (65536, 65536))
        os.setgid(65534)
        os.setuid(65534)
        Ring(entries=32768)

    answer = in_child(attempt)
    if answer == "nothing was raised":
        # Linux 7.2 no longer counts the queues: what is registered is counted as ever.
        assert not os.uname().release.startswith("6.18.")

        def attempt_to_register():
            import resource

            resource.setrlimit(resource.RLIMIT_MEMLOCK, (65536, 65536))
            os.setgid(65534)
            os.setuid(65534)
            Ring(locked_buffer_mem=1 << 20).start()

        answer = in_child(attempt_to_register).replace("OSError", "RingUnavailable")
    assert answer.startswith("RingUnavailable")
    assert "RLIMIT_MEMLOCK" in answer
    assert "64 KiB" in answer


@pytest.mark.skipif(sys.maxsize < 1 << 32 or os.uname().machine != "x86_64", reason="a filter for x86-64")
def test_a_seccomp_filter_is_named():
    def attempt():
        libc = ctypes.CDLL(None, use_errno=True)
        load, equal, give = 0x20, 0x15, 0x06
        program = b"".join(
            struct.pack("=HBBI", *step)
            for step in (
                (load, 0, 0, 0),
                (equal, 0, 1, 425),
                (give, 0, 0, 0x50000 | errno.EPERM),
                (give, 0, 0, 0x7FFF0000),
            )
        )
        text = ctypes.create_string_buffer(program)
        head = ctypes.create_string_buffer(struct.pack("=H6xQ", 4, ctypes.addressof(text)))
        if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.c_void_p(ctypes.addressof(head)), 0, 0):
            raise OSError(ctypes.get_errno(), "prctl")
        Ring(entries=8)

    answer = in_child(attempt)
    assert answer.startswith("RingUnavailable"), answer
    assert "seccomp" in answer


def test_no_descriptor_left():
    def attempt():
        import resource

        resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
        Ring(entries=8)

    assert "RLIMIT_NOFILE" in in_child(attempt)


def test_a_machine_without_io_uring(monkeypatch):
    from uring.kernel import ring

    monkeypatch.setattr(ring, "lib", None)
    with pytest.raises(RingUnavailable) as caught:
        Ring(entries=8)
    assert caught.value.errno == errno.ENOSYS
