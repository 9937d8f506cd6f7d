"""Linux io_uring for Python: the kernel boundary, without a scheduler or policy.

`Ring` has a method for each operation. `uring.ops` has the same operations as prepared requests, for
`Ring.submit` and for schedulers; `uring.abi` has the kernel's constants and layouts. Importing works on every
system; opening a ring needs Linux 6.18.

PYTEST_DONT_REWRITE: `uring_trio`'s launcher imports it before pytest.
"""

from typing import TYPE_CHECKING

from ._names import names_on_demand
from ._version import __version__ as __version__

if TYPE_CHECKING:
    from . import abi, ops
    from .contexts.context import (
        CTX_MODE_DIRECT,
        CTX_MODE_EXTENDED,
        CTX_MODE_INDIRECT,
        CTX_MODE_RESERVED,
        ExtSQE,
        IndirectSQE,
        SQEContext,
    )
    from .contexts.entry import SQEView, view_ext_sqe, view_sqe
    from .contexts.packing import cast_user_data, for_fd, pack_direct, pack_extended, pack_indirect
    from .contexts.pools import ContextPools, ScopedExtSQE
    from .contexts.requests import Request
    from .contexts.shapes import Ctx
    from .contexts.values import context_user_data, context_with_user_data
    from .contexts.views import CQEView, DirectCQE, ExtCQE
    from .errors import (
        CQOverflow,
        ListenerNotReady,
        NotSupported,
        NoWorker,
        OperationRestricted,
        PoolExhausted,
        RingClosed,
        RingUnavailable,
        error_from_result,
    )
    from .kernel.buffers import BufferRing
    from .kernel.messages import Message
    from .kernel.op import Op
    from .machines.dispatch import CompletionOwner, dispatch
    from .machines.incremental import IncrementalHandler, IncrementalReceiver
    from .machines.listener import (
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
    from .machines.machine import IllegalEvent
    from .machines.multishot import MultishotSubscription, SubscriptionState
    from .machines.steps import MultishotAction, MultishotHandler, MultishotStep
    from .machines.zcrx import ZCRXReceiver, ZCRXState
    from .machines.zcrx_parts import ZCRXBuffer, ZCRXConfig, ZCRXHandler
    from .machines.zcrx_queue import ZCRXCopies, ZCRXOffsets, ZCRXQueue
    from .machines.zerocopy import ZCHandler, ZCTracker
    from .options import (
        BUFFER_SIZES,
        LARGE_LOCKED_BUFFER_MEM,
        BufferGroupsConfig,
        Options,
        buffer_config_for_budget,
        options_for_budget,
        options_for_system,
    )
    from .ring import Ring
    from .session.batch import Batch
    from .session.bundles import BundleIterator
    from .session.chains import Chain
    from .session.groups import BufferGroup
    from .session.pools import BufferPool, RegisterBufferPool
    from .session.provided import BufferGroups
    from .session.queries import (
        QueryOpcode,
        QuerySCQ,
        QueryZCRX,
        query_opcodes,
        query_scq,
        query_zcrx,
        send_msg_ring,
    )
    from .session.regions import MemRegion, WaitRegion, aligned_mem_block
    from .session.state import Features

__path__ = [*__path__, f"{__path__[0]}/_moved"]  # modules under their earlier paths

__all__ = [
    "BUFFER_SIZES",
    "CTX_MODE_DIRECT",
    "CTX_MODE_EXTENDED",
    "CTX_MODE_INDIRECT",
    "CTX_MODE_RESERVED",
    "LARGE_LOCKED_BUFFER_MEM",
    "Batch",
    "BufferGroup",
    "BufferGroups",
    "BufferGroupsConfig",
    "BufferPool",
    "BufferRing",
    "BundleIterator",
    "CQEView",
    "CQOverflow",
    "Chain",
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
    "NoWorker",
    "NotSupported",
    "Op",
    "OperationRestricted",
    "Options",
    "PoolExhausted",
    "QueryOpcode",
    "QuerySCQ",
    "QueryZCRX",
    "RegisterBufferPool",
    "Request",
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
    "ZCRXCopies",
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

_HOMES = {
    "contexts.context": (
        "CTX_MODE_DIRECT CTX_MODE_EXTENDED CTX_MODE_INDIRECT CTX_MODE_RESERVED ExtSQE IndirectSQE SQEContext"
    ),
    "contexts.packing": "cast_user_data for_fd pack_direct pack_extended pack_indirect",
    "contexts.pools": "ContextPools ScopedExtSQE",
    "contexts.requests": "Request",
    "contexts.shapes": "Ctx",
    "contexts.values": "context_user_data context_with_user_data",
    "contexts.entry": "SQEView view_ext_sqe view_sqe",
    "contexts.views": "CQEView DirectCQE ExtCQE",
    "errors": (
        "CQOverflow ListenerNotReady NoWorker NotSupported OperationRestricted PoolExhausted RingClosed "
        "RingUnavailable error_from_result"
    ),
    "kernel.buffers": "BufferRing",
    "kernel.messages": "Message",
    "kernel.op": "Op",
    "machines.dispatch": "CompletionOwner dispatch",
    "machines.incremental": "IncrementalHandler IncrementalReceiver",
    "machines.listener": (
        "ListenerHandler ListenerManager ListenerOp ListenerState ListenerStep decode_listener_cqe "
        "prepare_listener_bind prepare_listener_listen prepare_listener_socket set_listener_ready"
    ),
    "machines.machine": "IllegalEvent",
    "machines.multishot": "MultishotSubscription SubscriptionState",
    "machines.zcrx_queue": "ZCRXCopies ZCRXOffsets ZCRXQueue",
    "machines.zcrx_parts": "ZCRXBuffer ZCRXConfig ZCRXHandler",
    "machines.steps": "MultishotAction MultishotHandler MultishotStep",
    "machines.zcrx": "ZCRXReceiver ZCRXState",
    "machines.zerocopy": "ZCHandler ZCTracker",
    "options": (
        "BUFFER_SIZES LARGE_LOCKED_BUFFER_MEM BufferGroupsConfig Options buffer_config_for_budget "
        "options_for_budget options_for_system"
    ),
    "ring": "Ring",
    "session.batch": "Batch",
    "session.bundles": "BundleIterator",
    "session.groups": "BufferGroup",
    "session.chains": "Chain",
    "session.pools": "BufferPool RegisterBufferPool",
    "session.provided": "BufferGroups",
    "session.queries": "QueryOpcode QuerySCQ QueryZCRX query_opcodes query_scq query_zcrx send_msg_ring",
    "session.regions": "MemRegion WaitRegion aligned_mem_block",
    "session.state": "Features",
}

if not TYPE_CHECKING:  # to a checker, a name that is not here is a mistake
    __getattr__, __dir__ = names_on_demand(__name__, _HOMES, "errors machines opcodes options probe")
