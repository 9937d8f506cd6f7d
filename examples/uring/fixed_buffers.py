"""Registered files and buffers: the ring keeps what every request would look up or pin anew.

The kernel maps a registered buffer once, and holds a registered file without counting references for each
request. It pays for many small requests on the same things.

Run: python examples/uring/fixed_buffers.py
"""

import os
import tempfile

from uring import RegisterBufferPool, Ring


def main() -> None:
    pool = RegisterBufferPool(4)  # pieces of 4 KiB
    with (
        tempfile.TemporaryFile() as file,
        Ring(entries=8) as ring,
        ring.register_files([file.fileno()]),
        ring.register_buffer_pool(pool),
        pool.borrow() as (index, memory),
        pool.borrow() as (other, copy),
    ):
        print(f"registered {ring.registered_file_count} file and {ring.registered_buffer_count} buffers")
        memory[:] = os.urandom(len(memory))
        # File 0 of the table, and the registered buffer that the memory lies in.
        wrote = ring.write_fixed(0, memory, index, offset=0, fixed_file=True).wait()
        print(f"wrote {wrote} bytes from buffer {index}")

        read = ring.read_fixed(0, copy, other, offset=0, fixed_file=True).wait()
        assert copy == memory
        print(f"read {read} bytes into buffer {other}, and they are the same")

        # A part of a buffer will do; memory that is not in it is refused before anything is queued.
        read = ring.read_fixed(0, copy[:100], other, offset=50, fixed_file=True).wait()
        assert copy[:100] == memory[50:150]
        print(f"read {read} bytes into the start of buffer {other}")


if __name__ == "__main__":
    main()
