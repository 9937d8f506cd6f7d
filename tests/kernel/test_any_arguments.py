"""Every method of a ring with any arguments: it works, or a specific exception says what is wrong."""

from __future__ import annotations

import inspect
import os
import random
import warnings

import pytest

from uring import Ring, ops

# They change files or the process, or may wait for ever, when they are given what happens to be right.
LEFT_OUT = {
    "close",
    "fallocate",
    "fsetxattr",
    "ftruncate",
    "linkat",
    "mkdirat",
    "openat",
    "openat2",
    "renameat",
    "setxattr",
    "shutdown",
    "start",
    "stop",
    "symlinkat",
    "unlinkat",
    "wait_registered",
    "with_ext_sqe",
}
METHODS = [
    name
    for name, _ in inspect.getmembers(Ring, inspect.isfunction)
    if name[0] != "_" and name not in LEFT_OUT
]
SPECIFIC = (ValueError, TypeError, OSError, LookupError, RuntimeError)


@pytest.mark.parametrize("seed", [0, 1, 2, 11])
def test_any_arguments(seed: int) -> None:
    rng = random.Random(seed)
    before = set(os.listdir("/proc/self/fd"))
    read, write = os.pipe()
    ring = Ring(entries=8)
    ring.start()
    accepted = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for turn in range(3000):
            name = rng.choice(METHODS)
            method = getattr(ring, name)
            values = [
                *(
                    0,
                    1,
                    -1,
                    5,
                    1 << 16,
                    1 << 31,
                    1 << 62,
                    3 << 62,
                    (1 << 64) - 1,
                    1 << 70,
                    True,
                    1.5,
                    float("nan"),
                ),
                *(
                    float("inf"),
                    None,
                    "x",
                    b"abc",
                    [],
                    (),
                    {},
                    object(),
                    read,
                    write,
                    ops.nop(),
                    [(ops.nop(), 3)],
                ),
                *(bytearray(64), memoryview(bytearray(16)), [bytearray(8)], [b"x"], ring.pools),
            ]
            args, options = [], {}
            for parameter in inspect.signature(method).parameters.values():
                if parameter.kind is parameter.KEYWORD_ONLY:
                    if rng.random() < 0.25 and parameter.name != "timeout":
                        options[parameter.name] = rng.choice(values)
                elif parameter.name == "timeout":
                    args.append(0.0)
                else:
                    args.append(rng.choice(values))
            try:
                method(*args, **options)
                accepted += 1
            except SPECIFIC:
                pass
            if turn % 20 == 0:
                ring.wait(64)
        ring.stop()
    assert accepted > 50
    os.close(read)
    os.close(write)
    for fd in set(os.listdir("/proc/self/fd")) - before:
        try:
            os.close(int(fd))  # sockets and pipes that the ring was made to make
        except OSError:
            pass  # the directory that was listed
