"""`uring.kernel.inflight` under its earlier path."""

from uring.kernel.inflight import *
