"""The examples of the low-level package and the programs of its page, run as they say."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "uring"
PAGE = ROOT / "docs" / "uring.md"
SECONDS = 60

# What each prints, line by line.
SAYS = {
    "linked_copy.py": """\
copied 1000000 bytes by 16 chains
the same content: True
""",
    "file_io.py": """\
one request wrote 19 bytes
16 requests wrote 65536 bytes, which are on the disk
a batch of 16 reads brought 65536 bytes in one completion
an open came to -2: No such file or directory
""",
    "contexts.py": """\
direct: the program's number came back, 42
direct: it was a IORING_OP_READ on the pipe: True, 5 bytes
indirect: a read of 2 bytes got 2
indirect: a read of 3 bytes got 3
extended: 8 bytes, b'extended'; the number beside them is -7
late: the context's slot is not borrowed, or was given back
""",
    "vectored_io.py": """\
wrote 30 bytes out of 2 buffers
read 30 bytes into 3 buffers: rec1, 22 bytes, 'the body of the record'
""",
    "fixed_buffers.py": """\
registered 1 file and 4 buffers
wrote 4096 bytes from buffer 0
read 4096 bytes into buffer 1, and they are the same
read 100 bytes into the start of buffer 1
""",
    "timeouts.py": """\
a timer of 50 ms completed with ETIME
a timer of a minute completed after 2 others with 0
a timer of 10 ms ticked three times and was removed
nothing to read within 50 ms: the read ECANCELED, its deadline ETIME
and in time: the read 7 bytes, its deadline ECANCELED
""",
    "poll.py": """\
the pipe can be read: b'x'
one request said 3 times that the pipe can be read
of three sockets the third has data, and the first has lost its peer
""",
    "splice_tee.py": """\
spliced 65536 bytes from file to file
tee copied 15 bytes: b'for both of you'
""",
    "tcp_client.py": """\
connected, sent 18 bytes, received b'HTTP/1.0 200 OK\\r\\n\\r\\nhello'
the same in one chain, on a socket without a descriptor
connect: Connection refused
send: Operation canceled
""",
    "buffer_rings.py": """\
the kernel took a buffer for b'into whichever'
no buffer left: No buffer space available
and with one again: 4 bytes
a bundle of 4 buffers: 40 bytes
groups of [32, 128, 512] bytes; for [10, 100, 500] bytes those of [32, 128, 512]
""",
    "multishot.py": """\
one accept brought 3 connections; now it is STOPPED
received 'client 0, client 0, client 0, '
received 'client 1, client 1, client 1, '
received 'client 2, client 2, client 2, '
""",
    "listener.py": """\
the socket is there
it is bound
it listens
two clients were told: welcome welcome
the listener is CLOSED
""",
    "echo_udp.py": """\
pong 0
pong 1
pong 2
pong 3
pong 4
""",
    "zero_copy.py": """\
the ring holds the memory
sent 19 bytes; more to come: True
notification: the memory is free
three tracked sends, 6 completions, AAAAAAAAAABBBBBBBBBBCCCCCCCCCC
out of a registered buffer: 3456
""",
}
ELSEWHERE = {"echo_tcp.py"}  # with clients, below


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", *command], capture_output=True, text=True, timeout=SECONDS, cwd=ROOT
    )


@pytest.mark.parametrize("name", SAYS)
def test_an_example_does_what_it_says(name: str) -> None:
    done = run(str(EXAMPLES / name))
    assert (done.stdout, done.stderr, done.returncode) == (SAYS[name], "", 0)


def test_a_copy_that_finds_no_room_says_so(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(os.urandom(100_000))
    # The last write comes short, and no request follows it in its chain.
    limited = (
        "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (99_000, 99_000)); "
        "sys.argv[:] = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    command = [sys.executable, "-c", limited, str(EXAMPLES / "linked_copy.py"), str(source), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith("the target has no room for all of it\n")


def exchange(address: tuple[str, int], data: bytes) -> bytes:
    """All that the server answers to ``data`` and the end of the stream."""
    answer = bytearray()
    with socket.create_connection(address, timeout=SECONDS) as client:
        sender = threading.Thread(target=lambda: (client.sendall(data), client.shutdown(socket.SHUT_WR)))
        sender.start()
        while part := client.recv(65536):
            answer += part
        sender.join()
    return bytes(answer)


def test_the_tcp_server_echoes() -> None:
    command = [sys.executable, "-W", "error", str(EXAMPLES / "echo_tcp.py"), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            host, _, port = line.removeprefix("listening on ").strip().rpartition(":")
            address = host, int(port)
            # More clients than the server has buffers.
            messages = [os.urandom(size) for size in (0, 1, 5000, 300_000) for _ in range(25)]
            with ThreadPoolExecutor(len(messages)) as clients:
                answers = list(clients.map(lambda data: exchange(address, data), messages))
            assert answers == messages
            with socket.create_connection(address) as client:
                client.sendall(b"x" * 100_000)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset
            assert exchange(address, b"still there") == b"still there"
            server.send_signal(signal.SIGINT)
            out, err = server.communicate(timeout=SECONDS)
            assert (out, err, server.returncode) == ("stopped\n", "", 0)
        finally:
            server.kill()


def test_every_example_has_a_test_and_is_listed() -> None:
    names = {file.name for file in EXAMPLES.glob("*.py")}
    assert names == SAYS.keys() | ELSEWHERE
    page = (EXAMPLES / "README.md").read_text()
    assert set(re.findall(r"\[(\w+\.py)\]\(\1\)", page)) == names


PAGES = PAGE.read_text() + (ROOT / "docs" / "reference" / "from-go.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```\n\n```text\n(.*?)^```$", PAGES, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_a_program_of_the_page_prints_what_stands_under_it(number: int) -> None:
    program, says = BLOCKS[number]
    done = run("-c", program)
    assert (done.stdout, done.stderr, done.returncode) == (says, "", 0)


def test_every_program_of_the_page_is_run() -> None:
    assert len(BLOCKS) == PAGES.count("```python\n") == 6
