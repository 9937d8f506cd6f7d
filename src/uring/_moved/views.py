"""`uring.contexts.views` under its earlier path."""

from uring.contexts.entry import *
from uring.contexts.views import *
