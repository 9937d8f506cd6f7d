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
from .dispatch import CompletionOwner, dispatch
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
from .listener import (
    ListenerHandler,
    ListenerManager,
    ListenerOp,
    ListenerState,
    ListenerStep,
    decode_listener_cqe,
    prepare_listener_bind,
    prepare_listener_listen,
    prepare_listener_socket,
    set_listener_ready,
)
from .machine import IllegalEvent
from .messages import Message
from .multishot import (
    MultishotAction,
    MultishotHandler,
    MultishotStep,
    MultishotSubscription,
    SubscriptionState,
)
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
from .refill import ZCRXOffsets, ZCRXQueue
from .regions import MemRegion, WaitRegion, aligned_mem_block
from .ring import Ring
from .shapes import Ctx
from .state import Features
from .userdata import context_user_data, context_with_user_data
from .views import CQEView, DirectCQE, ExtCQE, SQEView, view_ext_sqe, view_sqe
from .zcrx import ZCRXBuffer, ZCRXConfig, ZCRXHandler, ZCRXReceiver, ZCRXState
from .zerocopy import ZCHandler, ZCTracker

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
    "CompletionOwner",
    "ContextPools",
    "Ctx",
    "DirectCQE",
    "ExtCQE",
    "ExtSQE",
    "Features",
    "IllegalEvent",
    "IncrementalHandler",
    "IncrementalReceiver",
    "IndirectSQE",
    "ListenerHandler",
    "ListenerManager",
    "ListenerNotReady",
    "ListenerOp",
    "ListenerState",
    "ListenerStep",
    "MemRegion",
    "Message",
    "MultishotAction",
    "MultishotHandler",
    "MultishotStep",
    "MultishotSubscription",
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
    "SubscriptionState",
    "WaitRegion",
    "ZCHandler",
    "ZCRXBuffer",
    "ZCRXConfig",
    "ZCRXHandler",
    "ZCRXOffsets",
    "ZCRXQueue",
    "ZCRXReceiver",
    "ZCRXState",
    "ZCTracker",
    "abi",
    "aligned_mem_block",
    "buffer_config_for_budget",
    "cast_user_data",
    "context_user_data",
    "context_with_user_data",
    "decode_listener_cqe",
    "dispatch",
    "error_from_result",
    "for_fd",
    "ops",
    "options_for_budget",
    "options_for_system",
    "pack_direct",
    "pack_extended",
    "pack_indirect",
    "prepare_listener_bind",
    "prepare_listener_listen",
    "prepare_listener_socket",
    "query_opcodes",
    "query_scq",
    "query_zcrx",
    "send_msg_ring",
    "set_listener_ready",
    "view_ext_sqe",
    "view_sqe",
]
