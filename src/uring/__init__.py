"""Linux io_uring for Python: the kernel boundary, without a scheduler or policy.

`Ring` is a ring with a method per operation; `uring.ops` has the same operations as inert requests, for
`Ring.submit` and for schedulers; `uring.abi` the kernel's numbers. Importing works anywhere; opening a ring
needs Linux 6.18.
"""

from . import abi, ops
from .batch import Batch
from .buffers import BufferRing
from .bundles import BundleIterator
from .contexts import (
    CTX_MODE_DIRECT,
    CTX_MODE_EXTENDED,
    CTX_MODE_INDIRECT,
    CTX_MODE_RESERVED,
    ContextPools,
    ExtSQE,
    IndirectSQE,
    ScopedExtSQE,
    SQEContext,
    cast_user_data,
    for_fd,
    pack_direct,
    pack_extended,
    pack_indirect,
)
from .errors import (
    CQOverflow,
    ListenerNotReady,
    NotSupported,
    PoolExhausted,
    RingClosed,
    RingUnavailable,
    error_from_result,
)
from .incremental import IncrementalHandler, IncrementalReceiver
from .messages import Message
from .op import Op
from .options import (
    BUFFER_SIZES,
    LARGE_LOCKED_BUFFER_MEM,
    BufferGroupsConfig,
    Options,
    buffer_config_for_budget,
    options_for_budget,
    options_for_system,
)
from .pools import BufferPool, RegisterBufferPool
from .provided import BufferGroups
from .queries import (
    QueryOpcode,
    QuerySCQ,
    QueryZCRX,
    query_opcodes,
    query_scq,
    query_zcrx,
    send_msg_ring,
)
from .regions import MemRegion, WaitRegion, aligned_mem_block
from .ring import Ring
from .shapes import Ctx
from .state import Features
from .userdata import context_user_data, context_with_user_data
from .views import CQEView, DirectCQE, ExtCQE, SQEView, view_ext_sqe, view_sqe

__all__ = [
    "BUFFER_SIZES",
    "CTX_MODE_DIRECT",
    "CTX_MODE_EXTENDED",
    "CTX_MODE_INDIRECT",
    "CTX_MODE_RESERVED",
    "LARGE_LOCKED_BUFFER_MEM",
    "Batch",
    "BufferGroups",
    "BufferGroupsConfig",
    "BufferPool",
    "BufferRing",
    "BundleIterator",
    "CQEView",
    "CQOverflow",
    "ContextPools",
    "Ctx",
    "DirectCQE",
    "ExtCQE",
    "ExtSQE",
    "Features",
    "IncrementalHandler",
    "IncrementalReceiver",
    "IndirectSQE",
    "ListenerNotReady",
    "MemRegion",
    "Message",
    "NotSupported",
    "Op",
    "Options",
    "PoolExhausted",
    "QueryOpcode",
    "QuerySCQ",
    "QueryZCRX",
    "RegisterBufferPool",
    "Ring",
    "RingClosed",
    "RingUnavailable",
    "SQEContext",
    "SQEView",
    "ScopedExtSQE",
    "WaitRegion",
    "abi",
    "aligned_mem_block",
    "buffer_config_for_budget",
    "cast_user_data",
    "context_user_data",
    "context_with_user_data",
    "error_from_result",
    "for_fd",
    "ops",
    "options_for_budget",
    "options_for_system",
    "pack_direct",
    "pack_extended",
    "pack_indirect",
    "query_opcodes",
    "query_scq",
    "query_zcrx",
    "send_msg_ring",
    "view_ext_sqe",
    "view_sqe",
]
