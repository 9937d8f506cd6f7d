"""`uring.kernel.memory` under its earlier path."""

from uring.kernel.memory import *
