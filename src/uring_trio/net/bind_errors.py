"""Advice where an address cannot be bound, as a note on the error."""

from __future__ import annotations

import errno
from typing import Any, TypeVar

__all__ = ["advise"]

E = TypeVar("E", bound=OSError)


def advise(error: E, address: Any) -> E:
    """Adds to an error of binding or listening, as a note, what to look at or to change."""
    note = None
    if error.errno == errno.EADDRINUSE:
        note = _in_use(address)
    elif error.errno == errno.EADDRNOTAVAIL:
        note = "No interface of this machine has that address: `ip address` lists them; host None is all."
    elif error.errno == errno.EACCES and isinstance(address, tuple):
        note = (
            "Ports below `sysctl net.ipv4.ip_unprivileged_port_start` need CAP_NET_BIND_SERVICE: take a "
            "higher one, or AmbientCapabilities=CAP_NET_BIND_SERVICE in the systemd unit."
        )
    if note is not None:
        error.add_note(note)
    return error


def _in_use(address: Any) -> str:
    if not isinstance(address, tuple):
        return (
            "A file of that name is there: a server may be listening (`ss -xlp` names it); if none is, "
            "remove the file."
        )
    return (
        f"Another socket has that port: `ss -tulnp 'sport = :{address[1]}'` names its process. With "
        "reuse_port=True several processes share a port; port 0 picks a free one. After a crash the kernel "
        "frees the port some milliseconds later: try again."
    )
