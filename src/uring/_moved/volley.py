"""`uring.kernel.volley` under its earlier path."""

from uring.kernel.volley import *
