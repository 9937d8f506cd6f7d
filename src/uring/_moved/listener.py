"""`uring.machines.listener` under its earlier path."""

from uring.machines.listener import *
