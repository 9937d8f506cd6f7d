"""`uring.session.methods.multicast` under its earlier path."""

from uring.session.methods.multicast import *
