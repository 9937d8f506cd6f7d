"""`uring.session.state` under its earlier path."""

from uring.session.state import *
