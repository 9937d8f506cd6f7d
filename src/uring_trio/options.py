"""What a ring run can be told: sizes of the queues and of the receive buffers."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

__all__ = ["RingOptions"]


@dataclass(frozen=True, slots=True)
class RingOptions:
    """Settings of one ring run.

    Args:
        entries: submission queue size, a power of two up to 32768. A full queue is flushed, so this is
            how much one system call can carry, not how much can be in flight.
        cq_entries: completion queue size, a power of two up to 65536. What does not fit is kept by the
            kernel and counted as an overflow.
        buffers: provided receive buffers, 1 to 32768. They hold data only between its arrival and the
            next step of the task that receives it.
        buffer_size: bytes in each, 64 to 16 MiB: the most that one receive returns through them.
    """

    entries: int = 256
    cq_entries: int = 4096
    buffers: int = 256
    buffer_size: int = 65536

    def __post_init__(self) -> None:
        for name, least, most in (
            ("entries", 2, 32768),
            ("cq_entries", 2, 65536),
            ("buffers", 1, 32768),
            ("buffer_size", 64, 16 << 20),
        ):
            value = getattr(self, name)
            if type(value) is not int:
                raise TypeError(f"{name} is an int, not {type(value).__name__}")
            if not least <= value <= most:
                raise ValueError(f"{name} is {least} to {most}, not {value}")
        for name in ("entries", "cq_entries"):
            value = getattr(self, name)
            if value & (value - 1):
                raise ValueError(f"{name} is a power of two, not {value}")
        if self.cq_entries < self.entries:
            raise ValueError(f"cq_entries ({self.cq_entries}) is at least entries ({self.entries})")

    @classmethod
    def parse(cls, text: str) -> RingOptions:
        """From ``"entries=512,buffers=64"``, as the launcher takes them.

        Raises:
            ValueError: an unknown name or a value that is not a number.
        """
        known = {field.name for field in fields(cls)}
        values: dict[str, Any] = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            name, equals, value = part.partition("=")
            if not equals or name not in known:
                raise ValueError(f"ring options are {', '.join(sorted(known))} as name=value, not {part!r}")
            try:
                values[name] = int(value)
            except ValueError:
                raise ValueError(f"{name} is a number, not {value!r}") from None
        return cls(**values)
