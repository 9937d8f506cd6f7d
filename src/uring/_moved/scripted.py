"""`uring.kernel.scripted` under its earlier path."""

from uring.kernel.scripted import *
