"""`uring.session.multicast` under its earlier path."""

from uring.session.multicast import *
