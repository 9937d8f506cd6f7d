"""Every request has its deadline: python examples/deadlines.py [--host H] [--port P]

A client sends lines. Something must arrive every `IDLE` seconds, a limit that the kernel holds. Each line is
answered within `ANSWER` seconds, sending included: "work N" takes N milliseconds and is answered with "done",
or with "too slow" where the time is up before.
"""

import argparse

import trio

import uring_trio

IDLE = 5.0
ANSWER = 0.2
LONGEST_LINE = 100


async def work(milliseconds: int) -> bytes:
    await trio.sleep(milliseconds / 1000)
    return b"done\n"


async def answer(stream: uring_trio.UringStream, line: bytes) -> None:
    command, _, number = line.partition(b" ")
    if command != b"work" or not number.isdigit():
        await stream.send_all(b"what?\n", timeout=ANSWER)
        return
    with trio.move_on_after(ANSWER) as scope:
        await stream.send_all(await work(int(number)))
    if scope.cancelled_caught:
        await stream.send_all(b"too slow\n", timeout=ANSWER)


async def serve(stream: uring_trio.UringStream) -> None:
    unread = b""
    async with stream:
        try:
            while data := await stream.receive_some(timeout=IDLE):
                *lines, unread = (unread + data).split(b"\n")
                for line in lines:
                    await answer(stream, line)
                if len(unread) > LONGEST_LINE:
                    return
        except (trio.TooSlowError, trio.BrokenResourceError):
            pass  # this client says nothing, takes nothing or is gone; the others stay


async def main(host: str, port: int) -> None:
    async with trio.open_nursery() as nursery:
        listener = await nursery.start(uring_trio.listen_tcp, host, port)
        print("listening on {}:{}".format(*listener.address), flush=True)
        async with listener.connections() as incoming:
            async for stream in incoming:
                nursery.start_soon(serve, stream)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Answers lines, each within its deadline.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=7000, help="0 picks a free one")
    options = parser.parse_args()
    try:
        # Ctrl-C ends only waits: it never comes between taking a connection and starting its task.
        uring_trio.run(main, options.host, options.port, restrict_keyboard_interrupt_to_checkpoints=True)
    except* KeyboardInterrupt:
        print("stopped")
