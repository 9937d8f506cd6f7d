"""`uring.machines.machine` under its earlier path."""

from uring.machines.machine import *
