"""The queues that the kernel shares with this process, and what is written there. No policy."""

from .ring import KernelRing, RingLike

__all__ = ["KernelRing", "RingLike"]
