"""A load generator for HTTP/2 without TLS, with the options of `load.c` and its protocol with the harness.

    python -m benchmarks.load_h2 --port P --connections N --seconds S --http PATH --body FILE

Each connection has one request under way at a time. Every answer must be 200 and have exactly the bytes of
the file. It is in Python and as slow as the server, which then has idle moments; these cost no CPU.
"""

from __future__ import annotations

import argparse
import json
import selectors
import socket
import sys
import time
from pathlib import Path
from statistics import quantiles

import h2.config
import h2.connection
import h2.events

HOST = "127.0.0.1"


class Connection:
    """One connection, with a request under way."""

    def __init__(self, port: int, path: str, body: bytes) -> None:
        self.sock = socket.create_connection((HOST, port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.state = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self.state.initiate_connection()
        self.body = body
        self.headers = [
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", HOST),
            (":path", path),
        ]

    def ask(self) -> None:
        self.started = time.perf_counter()
        self.received = bytearray()
        self.state.send_headers(self.state.get_next_available_stream_id(), self.headers, end_stream=True)
        self.sock.sendall(self.state.data_to_send())

    def take(self) -> float | None:
        """Receive once; the seconds that the answer took, when it is complete.

        Raises:
            ValueError: it is not the right one.
        """
        data = self.sock.recv(1 << 18)
        if not data:
            raise ValueError("the server closed the connection")
        took = None
        for event in self.state.receive_data(data):
            if isinstance(event, h2.events.ResponseReceived) and dict(event.headers)[b":status"] != b"200":
                raise ValueError(f"the server answered {event.headers}")
            if isinstance(event, h2.events.DataReceived):
                self.received += event.data
                self.state.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            if isinstance(event, h2.events.StreamEnded):
                if self.received != self.body:
                    raise ValueError("the server answered with other bytes")
                took = time.perf_counter() - self.started
        if waiting := self.state.data_to_send():
            self.sock.sendall(waiting)
        return took


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int)
    parser.add_argument("--connections", type=int)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--http")
    parser.add_argument("--body", type=Path)
    options, _ = parser.parse_known_args()
    body = options.body.read_bytes()
    selector = selectors.DefaultSelector()
    connections = [Connection(options.port, options.http, body) for _ in range(options.connections)]
    latencies: list[float] = []
    mismatches = 0

    def exchange(until: float) -> None:
        """Ask on all connections again and again, and take the last answers."""
        nonlocal mismatches
        for connection in connections:
            connection.ask()
        left = len(connections)
        while left:
            for key, _ in selector.select(3):
                try:
                    took = key.data.take()
                except (OSError, ValueError) as exc:
                    print(f"load_h2: {exc}", file=sys.stderr)
                    selector.unregister(key.data.sock)
                    mismatches += 1
                    left -= 1
                    continue
                if took is None:
                    continue
                latencies.append(took)
                if time.perf_counter() < until:
                    key.data.ask()
                else:
                    left -= 1

    for connection in connections:
        selector.register(connection.sock, selectors.EVENT_READ, connection)
    exchange(0)
    latencies.clear()
    print("ready", flush=True)
    if not sys.stdin.readline():
        return 2
    start, cpu = time.perf_counter(), time.process_time()
    exchange(start + options.seconds)
    took = time.perf_counter() - start
    hundredths = quantiles(latencies, n=100) if len(latencies) > 1 else [0.0] * 99
    result = {
        "requests": len(latencies),
        "seconds": took,
        "p50_us": hundredths[49] * 1e6,
        "p99_us": hundredths[98] * 1e6,
        "bytes": len(latencies) * len(body),
        "errors": mismatches,
        "mismatches": mismatches,
        "client_cpu_us": (time.process_time() - cpu) * 1e6,
    }
    print(json.dumps(result), flush=True)
    sys.stdin.read()
    return 1 if mismatches else 0


if __name__ == "__main__":
    sys.exit(main())
