"""Random requests without contexts, and all that a program sees of them: `python both_forms.py SEED FORM`.

FORM is ``compiled`` or ``interpreted``. The output has no number that differs between two interpreters.
"""

from __future__ import annotations

import os
import random
import socket
import sys
from typing import Any

CALLS = 600


class Descriptor:
    def __init__(self, fd: object) -> None:
        self.fd = fd

    def fileno(self) -> Any:
        return self.fd


class Number(int):
    """A subclass of int, which is not the usual case."""


def main(seed: int) -> None:
    from uring import Ring, ops
    from uring.contexts.compiled import C
    from uring.contexts.context import REQUEST_VALUES

    print("interpreted" if C is None else "compiled")
    rng = random.Random(seed)
    near, far = socket.socketpair()
    file = os.memfd_create("m")
    os.write(file, bytes(range(256)) * 16)
    released = memoryview(bytearray(4))
    released.release()
    close_at = REQUEST_VALUES

    def descriptor() -> Any:
        own = rng.choice((file, file, near, near, near.fileno()))
        return (
            rng.choice((own, own, own, own, Descriptor(own), Number(file), Descriptor(Number(file))))
            if (rng.random() < 0.9)
            else rng.choice((-1, True, None, "x", 2**31, 2**70, Descriptor("x"), Descriptor(-1), 999))
        )

    def buffer() -> Any:
        n = rng.choice((0, 1, 7, 64))
        usual = rng.choice((bytearray(n), bytearray(n), memoryview(bytearray(n)), bytes(n)))
        unusual = (
            released,
            memoryview(bytearray(64))[::2],
            memoryview(bytearray(64)).cast("I"),
            "text",
            None,
            5,
        )
        return usual if rng.random() < 0.8 else rng.choice(unusual)

    def options(name: str) -> dict[str, Any]:
        if rng.random() < 0.6:
            return {}
        key = rng.choice(
            ("offset", "offset", "n", "flags", "rw_flags", "ctx", "sqe_flags", "poll_first", "result")
        )
        return {key: rng.choice((0, 1, -1, 16, 4096, 2**63 - 1, 2**63, True, None, "x", Number(3)))}

    def arguments(name: str) -> list[Any]:
        if name == "nop":
            return [] if rng.random() < 0.8 else [rng.choice((None, 7, "x"))]
        given = [descriptor(), buffer()]
        if rng.random() < 0.1:
            given.insert(0, rng.choice((None, 7, "x")))
        return given if rng.random() < 0.95 else given[:1]

    def shown(error: BaseException) -> str:
        return f"{type(error).__name__} {error} {getattr(error, '__notes__', [])}".replace(str(file), "FILE")

    def seen(request: Any) -> str:
        fields = list(request.fields)
        addresses = (3, 4) if request.name == "statx" else (4,)
        for i in addresses:
            fields[i] = bool(fields[i])
        return f"{request!r} {request.name} {fields} {request.res} {request.flags} {request.value - close_at}"

    near.setblocking(False)
    with Ring(entries=16) as ring:
        made: list[Any] = []
        for step in range(CALLS):
            name = rng.choice(("nop", "read", "write", "send", "recv"))
            far.sendall(bytes(64))
            try:
                if rng.random() < 0.1:
                    many = [ops.nop(), ops.nop(result=-5), ops.read(file, bytearray(4), offset=step)]
                    rng.shuffle(many)
                    found = ring.submit_all(many[: rng.randrange(4)])
                elif rng.random() < 0.1:
                    found = [ring.request(rng.choice((ops.nop(), ops.statx("/"), ops.statx("/missing"))))]
                else:
                    found = [getattr(ring, name)(*arguments(name), **options(name))]
            except Exception as error:
                print(step, name, shown(error))
                continue
            made += [each for each in found if not isinstance(each, int)]
            print(step, name, [seen(each) if hasattr(each, "fields") else int(each) for each in found])
            if rng.random() < 0.3:
                finish(ring, made, rng, seen, shown, close_at)
                empty(near)
                empty(far)
        finish(ring, made, rng, seen, shown, close_at)
    near.close()
    far.close()
    os.close(file)


def empty(sock: socket.socket) -> None:
    """Empties a socket, so that there is room for more."""
    try:
        while sock.recv(1 << 16, socket.MSG_DONTWAIT):
            pass
    except BlockingIOError:
        pass


def finish(ring: Any, made: list[Any], rng: Any, seen: Any, shown: Any, first: int) -> None:
    """Waits for what is in flight, and reads every attribute of each request and completion."""
    for cqe in sorted(ring.drain(60.0)):
        whose = cqe.request
        print(cqe[0] - first if whose else cqe[0], len(cqe), cqe[1:3], cqe.big_cqe, type(cqe).__name__)
        print(whose and (seen(whose), cqe.op, cqe.has_more, cqe.sqe.len))
        try:
            print(type(cqe.result()).__name__)
        except OSError as error:
            print(shown(error))
    for request in made:
        for _ in range(rng.randrange(1, 3)):
            try:
                result = request.result()
                print(request.done(), result if isinstance(result, int) else type(result).__name__)
            except Exception as error:
                print(shown(error))
    made.clear()


if __name__ == "__main__":
    if sys.argv[2] == "interpreted":
        sys.modules["uring._requests"] = None  # type: ignore[assignment]
    main(int(sys.argv[1]))
