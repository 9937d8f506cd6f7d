"""The queues that the kernel shares with this process, and the requests that are written there. No policy."""

from .ring import KernelRing
from .ringlike import RingLike

__all__ = ["KernelRing", "RingLike"]
