"""A ring without a kernel, for tests: the test decides what completes, when and in which order."""

from .ring import FAKE_FD, RandomScheduler, Request, ScriptedBuffers, ScriptedRing

__all__ = ["FAKE_FD", "RandomScheduler", "Request", "ScriptedBuffers", "ScriptedRing"]
