"""One request for all connections to come, and one for all that a connection receives.

A multishot completes again and again; the completion without `has_more` is its last. A subscription tracks
its state: `dispatch` passes the completions to it, and it calls a handler.

Run: python examples/uring/multishot.py
"""

import os
import socket

from uring import MultishotAction, MultishotHandler, MultishotStep, Ring, dispatch, for_fd

GROUP = 1
CLIENTS = 3


def accept(ring: Ring, listener: socket.socket) -> list[int]:
    accepted: list[int] = []

    def on_step(step: MultishotStep) -> MultishotAction:
        if step.error is None:
            accepted.append(step.cqe.res)
        return MultishotAction.STOP if len(accepted) == CLIENTS else MultishotAction.CONTINUE

    subscription = ring.accept_multishot(for_fd(listener.fileno()), MultishotHandler.from_callbacks(on_step))
    ring.flush()
    clients = [socket.create_connection(listener.getsockname()) for _ in range(CLIENTS)]
    for i, client in enumerate(clients):
        client.sendall(f"client {i}, ".encode() * 3)
        client.close()
    for cqe in ring.completions():
        dispatch(cqe)
    print(f"one accept brought {len(accepted)} connections; now it is {subscription.state.name}")
    return accepted


def receive(ring: Ring, fds: list[int]) -> None:
    """Each receive takes buffers of the group, and ends by itself at the end of its stream."""
    buffers = ring.register_buf_ring(8, GROUP, 16)
    texts = dict.fromkeys(fds, b"")
    stopped: list[OSError | None] = []
    for fd in fds:

        def on_step(step: MultishotStep, fd: int = fd) -> MultishotAction:
            if step.cqe.has_buffer:
                with buffers.borrow(step.cqe) as data:
                    texts[fd] += bytes(data)
            return MultishotAction.CONTINUE

        handler = MultishotHandler.from_callbacks(on_step, lambda error, cancelled: stopped.append(error))
        ring.recv_multishot(for_fd(fd).with_buf_group(GROUP), handler)
    for cqe in ring.completions():
        dispatch(cqe)
    assert stopped == [None] * len(fds)
    for text in sorted(texts.values()):
        print(f"received {text.decode()!r}")


def main() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, Ring(entries=16) as ring:
        fds = accept(ring, listener)
        receive(ring, fds)
        for fd in fds:
            os.close(fd)


if __name__ == "__main__":
    main()
