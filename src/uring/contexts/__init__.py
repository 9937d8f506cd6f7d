"""Submission contexts: the meaning of `user_data`, and the slots that it names."""

from .context import (
    CTX_MODE_DIRECT,
    CTX_MODE_EXTENDED,
    CTX_MODE_INDIRECT,
    CTX_MODE_RESERVED,
    USER_DATA_SIZE,
    ExtSQE,
    IndirectSQE,
    SQEContext,
    find_slot,
)
from .packing import cast_user_data, for_fd, pack_direct, pack_extended, pack_indirect
from .pools import ContextPools, ScopedExtSQE

__all__ = [
    "CTX_MODE_DIRECT",
    "CTX_MODE_EXTENDED",
    "CTX_MODE_INDIRECT",
    "CTX_MODE_RESERVED",
    "USER_DATA_SIZE",
    "ContextPools",
    "ExtSQE",
    "IndirectSQE",
    "SQEContext",
    "ScopedExtSQE",
    "cast_user_data",
    "find_slot",
    "for_fd",
    "pack_direct",
    "pack_extended",
    "pack_indirect",
]
