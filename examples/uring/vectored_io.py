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
        wrote = ring.writev(file, [HEADER.pack(b"rec1", len(body)), body], offset=0).wait()
        print(f"wrote {wrote} bytes out of 2 buffers")

        header, start, rest = bytearray(HEADER.size), bytearray(8), bytearray(100)
        read = ring.readv(file, [header, start, rest], offset=0).wait()
        kind, length = HEADER.unpack(header)
        text = bytes(start + rest)[:length]
        assert (read, text) == (HEADER.size + len(body), body)
        print(f"read {read} bytes into 3 buffers: {kind.decode()}, {length} bytes, {text.decode()!r}")


if __name__ == "__main__":
    main()
