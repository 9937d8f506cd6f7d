"""`uring.contexts.views` under its earlier path."""

from uring.contexts.views import *
