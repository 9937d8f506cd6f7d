"""Waiting for child processes on the ring."""

from __future__ import annotations

import os
from typing import Any

from uring import ops

from ..core.perform import perform

__all__ = ["wait_process"]


async def wait_process(pid: int | None = None, *, pidfd: int | None = None, reap: bool = True) -> Any:
    """Waits until a child has ended and returns what `os.waitid` does: ``si_pid``, ``si_status``,
    ``si_code``.

    A cancelled wait reaps nothing. A checkpoint. Linux 6.7.

    Args:
        pid: its process number; not with ``pidfd``.
        pidfd: a descriptor from `os.pidfd_open`; not with ``pid``.
        reap: whether the child is reaped, so that its number may be used again.

    Raises:
        ChildProcessError: it is no child of this process, or was reaped already.
        TypeError: neither or both are given.
    """
    if (pid is None) == (pidfd is None):
        raise TypeError("wait_process takes a pid or a pidfd")
    kind, number = (os.P_PID, pid) if pidfd is None else (os.P_PIDFD, pidfd)
    options = os.WEXITED if reap else os.WEXITED | os.WNOWAIT
    return await perform(ops.waitid(kind, number, options))  # type: ignore[arg-type]
