"""`uring.kernel.op` under its earlier path."""

from uring.kernel.op import *
