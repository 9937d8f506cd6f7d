"""Two rings in two threads: python examples/two_threads.py [--host H] [--port P]

One thread talks to clients, which send data and end their side; the other computes digests and may take its
time. Two channels between their rings carry the work over and the results back: a send or receive that waits
is woken by the other ring, with no pipe and no thread in between.
"""

import argparse
import hashlib
import threading
from itertools import count

import trio

import uring_trio

WAITING = 100
Jobs = uring_trio.RingReceiveChannel[tuple[int, bytes]]
Results = uring_trio.RingSendChannel[tuple[int, str]]


async def digest(jobs: Jobs, results: Results) -> None:
    async with results, jobs:
        try:
            async for number, data in jobs:
                await results.send((number, hashlib.sha256(data).hexdigest()))
        except trio.BrokenResourceError:
            pass  # the other end was closed


class Digests:
    """The other thread, as the tasks of this one see it."""

    def __init__(self) -> None:
        self._jobs, jobs = uring_trio.open_ring_channel[tuple[int, bytes]](WAITING)
        results, self._results = uring_trio.open_ring_channel[tuple[int, str]](WAITING)
        self._sending = trio.Lock()
        self._numbers = count()
        self._expected: dict[int, trio.Event | str] = {}
        self.thread = threading.Thread(target=uring_trio.run, args=(digest, jobs, results))

    async def of(self, data: bytes) -> str:
        number, done = next(self._numbers), trio.Event()
        self._expected[number] = done
        async with self._sending:  # one task at a time uses an end of a channel
            await self._jobs.send((number, data))
        await done.wait()
        result = self._expected.pop(number)
        assert isinstance(result, str)
        return result

    async def collect(self) -> None:
        async for number, result in self._results:
            done, self._expected[number] = self._expected[number], result
            assert isinstance(done, trio.Event)
            done.set()

    async def aclose(self) -> None:
        """Closes both channels, which ends the other thread."""
        await self._jobs.aclose()
        await self._results.aclose()


async def serve(stream: uring_trio.UringStream, digests: Digests) -> None:
    received = bytearray()
    async with stream:
        try:
            async with stream.chunks() as chunks:
                async for data in chunks:
                    received += data
            await stream.send_all(f"{await digests.of(bytes(received))}\n".encode())
        except trio.BrokenResourceError:
            pass  # this client is gone; the others stay


async def main(host: str, port: int) -> None:
    digests = Digests()
    digests.thread.start()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(digests.collect)
            listener = await nursery.start(uring_trio.listen_tcp, host, port)
            print("listening on {}:{}".format(*listener.address), flush=True)
            async with listener.connections() as incoming:
                async for stream in incoming:
                    nursery.start_soon(serve, stream, digests)
    finally:
        with trio.CancelScope(shield=True):
            await digests.aclose()
        digests.thread.join()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Tells TCP clients the SHA-256 of what they send.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=7000, help="0 picks a free one")
    options = parser.parse_args()
    try:
        # Ctrl-C ends only waits: it never comes between taking a connection and starting its task.
        uring_trio.run(main, options.host, options.port, restrict_keyboard_interrupt_to_checkpoints=True)
    except* KeyboardInterrupt:
        print("stopped")
