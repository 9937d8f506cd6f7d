"""The one place that touches private names of Trio and AnyIO. `names` lists those of Trio.

    names        the private names in use, and whether this Trio has them
    runs         the current run; which I/O manager a run gets
    waits        how a task parks for an operation, and how it resumes
    attempts     checkpoints of calls that do not wait
    patches      replacements of Trio's classes and functions
    anyio        the same of AnyIO's
    protocols    what this room uses of the rooms above it
    ticks        scheduler ticks in C (``_ticks.c``); without its names, Trio's own loop does all of them
    calls        methods of this package with their usual case in C: ``_io.c``, and ``_io_*.c`` for those of
                 `net.socket`, `net.stream`, `net.receiver`, `core.perform` and `multishot.subscription`
    checkpoints  Trio's checkpoints in C (``_checkpoint.c``)
    scopes       Trio's cancel scopes in C (``_scope.c``)
    tasks        starts, wake-ups and ends of Trio's tasks in C (``_task.c``)
    methods      Trio's locks and memory channels in C (``_lock.c``, ``_channel.c``)
    shortcuts    how the C of the last four gets into Trio's classes and functions (``_shortcut.c``)

No Python module here depends on what an operation does.
"""

from .attempts import attempt, attempt_on_ring, cancelled, inline, interrupted, pause
from .calls import (
    closing,
    compiled,
    describe_chunks,
    describe_groups,
    describe_requests,
    describe_sockets,
    describe_subscriptions,
    is_plain,
    make_memory,
    make_receive,
)
from .names import (
    DEFAULT_RECEIVE_SIZE,
    NAMES,
    NAMES_OF_METHODS,
    NAMES_OF_SCOPES,
    NAMES_OF_TASKS,
    NAMES_OF_TICKS,
    TESTED,
    SocketType,
    UnsupportedTrio,
    check,
    require,
    unsupported,
)
from .patches import (
    Subclassable,
    anyio_is_on_trio,
    patch_forceful_close,
    patch_pipe_type,
    patch_socket_type,
    patch_stream_methods,
    resolve,
    sending,
    stdlib_socket,
)
from .runs import (
    NoRing,
    OtherRun,
    choose_for_next_run,
    choose_manager,
    clock_offset,
    current_manager,
    current_runner,
    current_task,
    deadline_checks,
    epoll_of,
    manager_here,
    reads_by,
    reschedule,
    run_sync_soon,
    runs_on,
    scheduled_from,
    set_default_manager,
    steps,
    stock_manager,
    use_manager_class,
    waiting,
    waits_for,
    writes_by,
)
from .ticks import make_ticks, restore
from .waits import (
    CANCELLED,
    DONE,
    INTERRUPTED,
    Abort,
    deliver,
    park_message,
    perform_fields,
    perform_op,
    transact,
    transact_unlimited,
    transact_volley,
    transact_within,
    transfer,
    wait,
    wait_for,
)

__all__ = [
    "CANCELLED",
    "DEFAULT_RECEIVE_SIZE",
    "DONE",
    "INTERRUPTED",
    "NAMES",
    "NAMES_OF_METHODS",
    "NAMES_OF_SCOPES",
    "NAMES_OF_TASKS",
    "NAMES_OF_TICKS",
    "TESTED",
    "Abort",
    "NoRing",
    "OtherRun",
    "SocketType",
    "Subclassable",
    "UnsupportedTrio",
    "anyio_is_on_trio",
    "attempt",
    "attempt_on_ring",
    "cancelled",
    "check",
    "choose_for_next_run",
    "choose_manager",
    "clock_offset",
    "closing",
    "compiled",
    "current_manager",
    "current_runner",
    "current_task",
    "deadline_checks",
    "deliver",
    "describe_chunks",
    "describe_groups",
    "describe_requests",
    "describe_sockets",
    "describe_subscriptions",
    "epoll_of",
    "inline",
    "interrupted",
    "is_plain",
    "make_memory",
    "make_receive",
    "make_ticks",
    "manager_here",
    "park_message",
    "patch_forceful_close",
    "patch_pipe_type",
    "patch_socket_type",
    "patch_stream_methods",
    "pause",
    "perform_fields",
    "perform_op",
    "reads_by",
    "require",
    "reschedule",
    "resolve",
    "restore",
    "run_sync_soon",
    "runs_on",
    "scheduled_from",
    "sending",
    "set_default_manager",
    "stdlib_socket",
    "steps",
    "stock_manager",
    "transact",
    "transact_unlimited",
    "transact_volley",
    "transact_within",
    "transfer",
    "unsupported",
    "use_manager_class",
    "wait",
    "wait_for",
    "waiting",
    "waits_for",
    "writes_by",
]
