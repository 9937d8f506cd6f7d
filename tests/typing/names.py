"""The types of names loaded on demand, to type checkers. ``make check`` reads this file; nothing runs it."""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from typing import assert_type

import uring
import uring_trio
from uring import Ring, RingClosed, abi, ops
from uring_trio import RingOptions, run

assert_type(uring.Ring, type[Ring])
assert_type(uring.RingClosed, type[RingClosed])
assert_type(uring.ops.nop(), uring.Op[int])
assert_type(abi.IORING_OP_NOP + uring.abi.IORING_OP_READ, int)
assert_type(ops.nop().fd, int)
assert_type(uring_trio.RingOptions, type[RingOptions])
run(unavailable=1)  # type: ignore
print(uring.no_such_name)  # type: ignore
print(uring_trio.no_such_name)  # type: ignore
print(uring.no_such_module.no_such_name)  # type: ignore
