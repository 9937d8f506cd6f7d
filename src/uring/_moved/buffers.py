"""`uring.kernel.buffers` under its earlier path."""

from uring.kernel.buffers import *
