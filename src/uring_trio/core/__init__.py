"""The core: operations in flight, cancels, descriptors, and the I/O manager that Trio calls.

Importing it, or a room above it, raises `uring_trio.UnsupportedTrio` where the installed Trio lacks what it
relies on.
"""

from ..seams import require

require()
