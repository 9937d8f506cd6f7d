"""Several buffers in one request: a header and a body written together, and read apart again.

Run: python examples/uring/vectored_io.py
"""

import struct
import tempfile

from uring import Ring

HEADER = struct.Struct("=4sI")


def main() -> None:
    body = b"the body of the record"
    with tempfile.TemporaryFile() as file, Ring(entries=8) as ring:
        ring.writev(1, file, [HEADER.pack(b"rec1", len(body)), body], offset=0)
        (cqe,) = ring.wait(timeout=None)
        print(f"wrote {cqe.res} bytes out of 2 buffers")

        header, start, rest = bytearray(HEADER.size), bytearray(8), bytearray(100)
        ring.readv(2, file, [header, start, rest], offset=0)
        (cqe,) = ring.wait(timeout=None)
        kind, length = HEADER.unpack(header)
        text = bytes(start + rest)[:length]
        assert (cqe.res, text) == (HEADER.size + len(body), body)
        print(f"read {cqe.res} bytes into 3 buffers: {kind.decode()}, {length} bytes, {text.decode()!r}")


if __name__ == "__main__":
    main()
