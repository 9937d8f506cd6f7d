"""`uring.kernel.messages` under its earlier path."""

from uring.kernel.messages import *
