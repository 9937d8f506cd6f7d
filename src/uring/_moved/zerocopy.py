"""`uring.machines.zerocopy` under its earlier path."""

from uring.machines.zerocopy import *
