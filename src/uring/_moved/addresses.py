"""`uring.kernel.addresses` under its earlier path."""

from uring.kernel.addresses import *
