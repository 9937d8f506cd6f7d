"""Contexts identify completions: 64 bits that come back as they were submitted.

Direct contexts are numbers: yours, or packed of opcode, flags, group and descriptor. Indirect and extended
ones name a slot, in which the request stays to be looked at; an extended slot has room for your data as
well.

Run: python examples/uring/contexts.py
"""

import os

from uring import ExtSQE, Ring, abi, for_fd, ops


def direct(ring: Ring, source: int) -> None:
    ring.nop(42)
    ring.read(for_fd(source), source, bytearray(5))
    for cqe in ring.wait(timeout=None):
        if cqe.user_data == 42:
            print("direct: the program's number came back, 42")
        else:
            print(f"direct: it was a {abi.Op(cqe.op).name} on the pipe: {cqe.fd == source}, {cqe.res} bytes")


def indirect(ring: Ring, source: int) -> None:
    """For several like requests in flight: each has a slot of its own, and remembers its entry."""
    slots = [ring.indirect_sqe() for _ in range(2)]
    for slot, size in zip(slots, (2, 3), strict=True):
        ring.read(slot.context, source, bytearray(size))
    for cqe in ring.wait(timeout=None):
        print(f"indirect: a read of {cqe.sqe.len} bytes got {cqe.res}")
        ring.put_indirect_sqe(cqe.indirect_sqe)


def extended(ring: Ring, source: int) -> None:
    """With 64 bytes and Python references of yours, seen as numbers and objects by `ctx`."""
    buffer = bytearray(10)

    def on_read(ext: ExtSQE, n: int) -> None:
        mine = ext.ctx(refs=1, vals=1)
        assert mine.ref1 is buffer
        print(f"extended: {n} bytes, {bytes(buffer[:n])!r}; the number beside them is {mine.val1}")

    ext = ring.ext_sqe()
    mine = ext.ctx(refs=1, vals=1)
    mine.fn, mine.ref1, mine.val1 = on_read, buffer, -7
    ext.prepare(ops.read(source, buffer))
    ring.submit_extended(ext.context)
    for cqe in ring.wait_extended(timeout=None):
        then = cqe.ext.ctx(refs=1, vals=1).fn
        if then is not None:
            then(cqe.ext, cqe.res)
        ring.put_ext_sqe(cqe.ext)


def late(ring: Ring) -> None:
    """A slot that was given back is dead: no completion, late or forged, finds it again."""
    ext = ring.ext_sqe()
    context = ext.context
    ring.put_ext_sqe(ext)
    try:
        ring.nop(context)
    except LookupError as error:
        print(f"late: {error}")


def main() -> None:
    source, sink = os.pipe()
    with Ring(entries=8) as ring:
        os.write(sink, b"first")
        direct(ring, source)
        os.write(sink, b"again")
        indirect(ring, source)
        os.write(sink, b"extended")
        extended(ring, source)
        late(ring)
    os.close(source)
    os.close(sink)


if __name__ == "__main__":
    main()
