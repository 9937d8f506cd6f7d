"""`uring.machines.multishot` under its earlier path."""

from uring.machines.multishot import *
from uring.machines.steps import *
