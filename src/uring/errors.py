"""Exceptions of the package, and the one place where a negative result becomes an exception.

A failed operation is an OSError of Python's own subclass (ConnectionRefusedError, BrokenPipeError, …):
`errno` and `strerror` are Python's, and the message also names the operation, descriptor and address.
`filename` is left to callers that know a path. Failures without a class in Python have one here. All can be
pickled.
"""

import _thread
import errno
import os
from typing import Final

__all__ = [
    "CQOverflow",
    "ListenerNotReady",
    "NoWorker",
    "NotSupported",
    "OperationRestricted",
    "PoolExhausted",
    "RingClosed",
    "RingUnavailable",
    "error_from_result",
    "explain_cancelled",
    "unavailable_from_errno",
]


class _Portable(OSError):
    """An OSError that is not made from (errno, strerror), and so pickles itself."""

    def _recipe(self) -> tuple[object, ...]:
        """The callable that makes its equal, and the arguments."""
        return type(self), (self.strerror,)

    def __reduce__(self) -> tuple[object, ...]:
        state = dict(self.__dict__)
        # Not where it is None: str() shows a file name that was set, even None.
        if self.filename is not None:
            state["filename"] = self.filename
        if self.filename2 is not None:
            state["filename2"] = self.filename2
        return (*self._recipe(), state)


class RingClosed(_Portable):
    """The ring was stopped, so that the call cannot reach the kernel. errno is EBADF.

    Args:
        message: the text.
    """

    def __init__(self, message: str = "the ring is closed") -> None:
        super().__init__(errno.EBADF, message)


class CQOverflow(_Portable):
    """The kernel dropped completions, which came faster than they were taken. errno is EOVERFLOW.

    Args:
        message: the text.
    """

    def __init__(self, message: str = "the completion queue overflowed") -> None:
        super().__init__(errno.EOVERFLOW, message)


class PoolExhausted(_Portable):
    """No slot or buffer is free; some come back as operations complete. errno is ENOBUFS.

    Args:
        message: the text.
    """

    def __init__(self, message: str = "the pool is exhausted") -> None:
        super().__init__(errno.ENOBUFS, message)


class ListenerNotReady(_Portable, RuntimeError):
    """The listener was used before its socket was bound and listening, or after its set-up failed.

    errno is EINVAL, as accept(2) has it for a socket that does not listen. It is a RuntimeError too.

    Args:
        message: the text.
    """

    def __init__(self, message: str = "the listener is not ready") -> None:
        super().__init__(errno.EINVAL, message)


class NotSupported(_Portable):
    """The kernel, the ring or the file does not have a feature. errno is EOPNOTSUPP.

    An operation that the running kernel lacks is refused before anything is queued. A completion with
    ``EOPNOTSUPP``, by which the kernel refuses an operation on this kind of file or socket, is one too:
    ``feature`` names the operation.

    Args:
        feature: the missing feature.
        needs: the requirement, such as "Linux 6.19".
    """

    feature: str
    needs: str

    def __init__(self, feature: str, needs: str = "") -> None:
        message = f"{feature} is not supported by this kernel"
        super().__init__(errno.EOPNOTSUPP, f"{message}: it needs {needs}" if needs else message)
        self.feature = feature
        self.needs = needs

    def _recipe(self) -> tuple[object, ...]:
        return type(self), (self.feature, self.needs)


class RingUnavailable(_Portable):
    """This machine refuses to create or to use a ring.

    `errno` and `strerror` are those of the system call that failed.

    Args:
        number: the errno.
        hint: which setting to change.
    """

    hint: str

    def __init__(self, number: int, hint: str = "") -> None:
        super().__init__(number, os.strerror(number))
        self.hint = hint

    def _recipe(self) -> tuple[object, ...]:
        return type(self), (self.errno, self.hint)

    def __str__(self) -> str:
        text = f"{super().__str__()}: io_uring is not available"
        return f"{text}: {self.hint}" if self.hint else text


class NoWorker(_Portable, RuntimeError):
    """The kernel could make no thread for an operation that it leaves to a worker; nothing was done.

    errno is EAGAIN, as clone(2) has it. It is a RuntimeError too, which Python raises where it cannot start a
    thread.

    Args:
        op: the operation.
        hint: the limits to raise.
    """

    op: str
    hint: str

    def __init__(self, op: str = "", hint: str = "") -> None:
        text = f"no thread could be made for {op or 'an operation'}"
        super().__init__(errno.EAGAIN, f"{text}: {hint}" if hint else text)
        self.op = op
        self.hint = hint

    def _recipe(self) -> tuple[object, ...]:
        return type(self), (self.op, self.hint)


class OperationRestricted(_Portable, PermissionError):
    """The ring's list of allowed operations does not have this one; the kernel did nothing.

    errno is EACCES. It is a PermissionError, as for a file that may not be opened; the class says that the
    ring refused and not the file. ``op`` is the operation's name, as the list takes it.

    Args:
        op: the operation.
    """

    op: str

    def __init__(self, op: str) -> None:
        hint = f"the ring may not do the operation {op}: add it to RingOptions(restrictions=)"
        super().__init__(errno.EACCES, hint)
        self.op = op

    def _recipe(self) -> tuple[object, ...]:
        return type(self), (self.op,)


EXPLAINED: Final = (NoWorker, OperationRestricted)
"""Exceptions that say more than their errno: code that makes an error anew from an errno keeps them."""


def error_from_result(res: int, op: str = "", fd: int | None = None, address: object = None) -> OSError:
    """The exception for a negative completion result.

    It is an instance of the subclass of OSError that Python has for that errno; ``ETIME`` is a TimeoutError
    too, and ``EOPNOTSUPP`` is a `NotSupported`. The codes by which an interrupted system call asks to be
    restarted, which the kernel lets through when a worker is cancelled, become ``EINTR``.

    Args:
        res: the result, an errno negated.
        op: the operation; the message names it, and the exception has it as ``op``.
        fd: its descriptor, likewise.
        address: its address, likewise.

    Returns:
        The exception.

    Raises:
        ValueError: ``res`` is not negative.
    """
    if res >= 0:
        raise ValueError(f"a result of {res} is not an error")
    number = errno.EINTR if -res in _RESTART_CODES else -res
    plain = OSError(number, os.strerror(number))
    kind = _KINDS.get(number) or type(plain)
    if not op and fd is None and address is None:
        return plain if kind is type(plain) else kind(number, plain.strerror)
    error = _placed(kind)(number, plain.strerror)
    if isinstance(error, NotSupported):
        error.feature = op
    error.op = op
    error.fd = fd
    error.address = address
    return error


def explain_cancelled(error: OSError, op: str = "") -> OSError:
    """The exception for an operation that failed without a cancel: the same one, or a `NoWorker`.

    An operation that is to run in a kernel worker, where there is none and no thread can be made, completes
    with ``ECANCELED``. So this tries to make a thread.
    """
    if error.errno != errno.ECANCELED or _threads_start():
        return error
    from .advice import thread_advice

    shown = NoWorker(op or getattr(error, "op", ""), thread_advice())
    if error.filename is not None:
        shown.filename = error.filename
    if error.filename2 is not None:
        shown.filename2 = error.filename2
    return shown


def unavailable_from_errno(number: int, call: str = "io_uring_setup", memory: int = 0) -> RingUnavailable:
    """The exception for a failed system call without which no ring can be used, with advice from this
    machine's settings. ``memory`` is the number of bytes that were asked for, as far as known."""
    from .advice import advice  # loaded with what opens rings

    return RingUnavailable(number, advice(number, call, memory))


# ERESTARTSYS, ERESTARTNOINTR, ERESTARTNOHAND, ERESTART_RESTARTBLOCK. They are internal to the kernel, but the
# first is seen in results of operations that were cancelled while they blocked in a worker.
_RESTART_CODES: Final = frozenset({512, 513, 514, 516})


class _Refused(NotSupported):
    """The kernel's own answer, with its text."""

    def __init__(self, number: int, text: str) -> None:
        OSError.__init__(self, number, text)
        self.feature = self.needs = ""

    def _recipe(self) -> tuple[object, ...]:
        return error_from_result, (-(self.errno or 0),)


_Refused.__name__ = _Refused.__qualname__ = "NotSupported"

_KINDS: Final[dict[int, type[OSError]]] = {errno.ETIME: TimeoutError, errno.EOPNOTSUPP: _Refused}
"""The errnos whose class is not the one that Python has for them."""


class _Placed(_Portable):
    """An OSError that names the operation that failed, its descriptor and address."""

    op: str
    fd: int | None
    address: object

    def _recipe(self) -> tuple[object, ...]:
        return error_from_result, (-(self.errno or 0), self.op, self.fd, self.address)

    def __str__(self) -> str:
        place = self.op
        if self.fd is not None:
            place = f"{place} on fd {self.fd}" if place else f"fd {self.fd}"
        if self.address is not None:
            place = f"{place}, address {self.address!r}" if place else f"address {self.address!r}"
        return f"{super().__str__()}: {place}"


def _placed(kind: type[OSError]) -> type[_Placed]:
    """`kind` with a place: a class of the same name, made once, since strerror itself must stay as it is."""
    known = _PLACED.get(kind)
    if known is None:
        made = type(kind.__name__, (_Placed, kind), {"__module__": __name__})
        known = _PLACED.setdefault(kind, made)
    return known


_PLACED: Final[dict[type[OSError], type[_Placed]]] = {}


def _threads_start() -> bool:
    done = _thread.allocate_lock()
    done.acquire()
    try:
        _thread.start_new_thread(done.release, ())
    except RuntimeError:
        return False
    done.acquire()
    return True
