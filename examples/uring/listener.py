"""A listening socket set up by the ring: socket, bind, listen, then a multishot accept.

`ListenerManager` takes the steps; it calls a handler for each, which may stop. Connections are closed by the
clients.

Run: python examples/uring/listener.py
"""

import os
import socket

from uring import (
    ListenerHandler,
    ListenerManager,
    ListenerOp,
    ListenerState,
    MultishotAction,
    MultishotHandler,
    MultishotStep,
    Ring,
    dispatch,
)


class Told(ListenerHandler):
    """Is called for each step; False would stop the set-up."""

    def on_socket_created(self, fd: int) -> bool:
        print("the socket is there")
        return True

    def on_bound(self) -> bool:
        print("it is bound")
        return True

    def on_listening(self) -> None:
        print("it listens")


class Accepting(MultishotHandler):
    def __init__(self) -> None:
        self.connections: list[socket.socket] = []

    def on_multishot_step(self, step: MultishotStep) -> MultishotAction:
        if step.error is not None:
            return MultishotAction.STOP
        self.connections.append(socket.socket(fileno=step.cqe.res))
        return MultishotAction.CONTINUE


def address_of(listener: ListenerOp) -> tuple[str, int]:
    with socket.socket(fileno=os.dup(listener.fd)) as view:
        host, port = view.getsockname()
    return host, port


def main() -> None:
    with Ring(entries=16) as ring:
        listener = ListenerManager(ring, ring.pools).listen_tcp4(("127.0.0.1", 0), 16, Told())
        for cqe in ring.completions():
            dispatch(cqe)
        assert listener.state is ListenerState.READY

        accepted = Accepting()
        with listener, listener.accept_multishot(accepted):
            ring.flush()
            clients = [socket.create_connection(address_of(listener)) for _ in range(2)]
            for cqe in ring.completions():
                dispatch(cqe)
                if len(accepted.connections) == 2:
                    break
            for connection in accepted.connections:
                ring.send(connection, b"welcome").wait()
            print("two clients were told:", *(client.recv(10).decode() for client in clients))
        print(f"the listener is {listener.state.name}")
        for each in (*clients, *accepted.connections):
            each.close()


if __name__ == "__main__":
    main()
