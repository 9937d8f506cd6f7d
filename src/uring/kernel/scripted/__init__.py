"""A ring without a kernel, for tests: the test decides what completes, when and in which order."""

from .buffers import ScriptedBuffers
from .request import FAKE_FD, Request
from .ring import ScriptedRing
from .scheduler import RandomScheduler
from .volley import ScriptedVolley

__all__ = ["FAKE_FD", "RandomScheduler", "Request", "ScriptedBuffers", "ScriptedRing", "ScriptedVolley"]
