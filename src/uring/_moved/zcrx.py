"""`uring.machines.zcrx` under its earlier path."""

from uring.machines.zcrx import *
