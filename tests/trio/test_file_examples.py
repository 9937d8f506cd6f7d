"""The examples about files, run as their first lines say."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

from tests.trio.programs import EXAMPLES, SECONDS, exchange, path, started


def run(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)


def test_grep(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a").write_text("no\nneedle one\n")
    (tmp_path / "sub" / "b").write_text("needle two\n" + "hay\n" * 1000 + "a needle\n")
    (tmp_path / "sub" / "binary").write_bytes(b"\xff\xfe needle\n")
    done = run("grep.py", "need.e", tmp_path)
    assert done.stdout.splitlines() == [
        f"{tmp_path}/a:2:needle one",
        f"{tmp_path}/sub/b:1:needle two",
        f"{tmp_path}/sub/b:1002:a needle",
    ]
    assert (done.stderr, done.returncode) == ("", 0)
    missing = run("grep.py", "x", tmp_path / "missing")
    assert missing.returncode == 1
    assert "No such file" in missing.stderr


def test_checksum(tmp_path: Path) -> None:
    paths = []
    for i, size in enumerate((0, 10, 256 * 1024 * 8, 3_000_001)):
        path = tmp_path / str(i)
        path.write_bytes(os.urandom(size))
        paths.append(path)
    done = run("checksum.py", *paths)
    assert done.stdout.splitlines() == [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path}" for path in paths
    ]
    assert "No such file" in run("checksum.py", tmp_path / "missing").stderr


def test_tail(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")
    command = [sys.executable, str(EXAMPLES / "tail.py"), str(log)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as tail:
        assert tail.stdout is not None
        assert tail.stderr is not None
        assert tail.stderr.readline() == f"following {log}\n"
        with log.open("a") as file:
            file.write("one\n")
            file.flush()
            assert tail.stdout.readline() == "one\n"
        log.rename(tmp_path / "log.1")
        log.write_text("after the rotation\n")
        assert tail.stdout.readline() == "after the rotation\n"
        log.write_text("short\n")
        assert tail.stdout.readline() == "short\n"
        tail.send_signal(signal.SIGINT)
        assert tail.wait(SECONDS) == 0


def test_store(tmp_path: Path) -> None:
    path = tmp_path / "store"
    first = run("store.py", path, "500")
    assert first.stdout.startswith("0 records found\n500 records appended"), first.stderr
    syncs = re.search(r"with (\d+) syncs", first.stdout)
    assert syncs is not None
    assert int(syncs[1]) < 50
    with path.open("ab") as file:
        file.write(b"\x20\0\0\0torn")
    assert run("store.py", path, "3").stdout.startswith("500 records found\n3 records")
    assert run("store.py", path, "0").stdout.startswith("503 records found\n")
    whole = path.read_bytes()
    # What a crash may leave behind a file's data: blocks that were allocated and never written, a part of a
    # record, another length in front of a whole one.
    record = whole[: 8 + int.from_bytes(whole[:4], "little")]
    for tail in (
        bytes(8),
        bytes(4096),
        record[:5],
        record[:-1],
        record[:10] + bytes(len(record) - 10),
        bytes(3) + record,
    ):
        path.write_bytes(whole + tail)
        assert run("store.py", path, "0").stdout.startswith("503 records found\n")
        assert path.read_bytes() == whole


def test_a_new_store_is_synced_with_its_directory(tmp_path: Path) -> None:
    """What is synced, by the instrument that sees each operation of a run."""
    program = """
import os, runpy, sys, trio, uring_trio
from uring_trio import debug

synced = []

class Syncs(debug.Instrument):
    def submitted(self, name, fd):
        if name == "fsync":
            synced.append(os.readlink(f"/proc/self/fd/{fd}"))

async def main():
    debug.add_instrument(Syncs())
    async with open_store(sys.argv[2]) as store:
        print(len(synced), synced[0])
        await store.append(b"")
        print(store.records)

open_store = runpy.run_path(sys.argv[1])["open_store"]
for _ in range(2):
    uring_trio.run(main)
"""
    command = [sys.executable, "-c", program, str(EXAMPLES / "store.py"), "store"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False, cwd=tmp_path)
    assert done.stderr == ""
    first, second = f"1 {tmp_path}", "[b'']"
    assert done.stdout.splitlines()[:2] == [first, second]
    assert done.stdout.splitlines()[3] == "[b'', b'']"


def test_static_files(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    content = {"a file": os.urandom(5_000_000), "empty": b"", "small": b"text"}
    for name, data in content.items():
        (root / name).write_bytes(data)
    (tmp_path / "secret").write_text("not below the root")
    (root / "way-out").symlink_to(tmp_path / "secret")
    (root / "circle").symlink_to("circle")
    os.mkfifo(root / "fifo")
    with started(path("static_files.py"), "--root", str(root)) as server:
        client = http.client.HTTPConnection(*server.address, timeout=SECONDS)
        for name, data in content.items():
            client.request("GET", "/" + quote(name))
            response = client.getresponse()
            assert (response.status, response.read()) == (200, data)
        for name in (
            "missing",
            "",
            "../secret",
            "way-out",
            "circle",
            "fifo",
            "%2e%2e/secret",
            "%00",
            "a%00b",
        ):
            client.request("GET", f"/{name}")
            response = client.getresponse()
            assert (response.status, response.read()) == (404, b""), name
        client.request("DELETE", "/a%20file")
        assert client.getresponse().status == 405
        client.close()
        # Requests that come at once are answered in turn; one of HTTP/1.0 is the last.
        asked = b"GET /small HTTP/1.1\r\n\r\nGET /empty?query HTTP/1.1\r\n\r\nGET /small HTTP/1.0\r\n\r\n"
        with socket.create_connection(server.address, timeout=SECONDS) as client_of_old:
            client_of_old.sendall(asked)
            found = b"".join(iter(lambda: client_of_old.recv(4096), b""))
        assert found.count(b"200 OK") == 3
        assert found.endswith(b"text")
        with socket.create_connection(server.address, timeout=SECONDS) as leaver:
            leaver.sendall(b"GET /a%20file HTTP/1.1\r\n\r\n")
        assert exchange(server.address, b"GET /small HTTP/1.1\r\n\r\n").endswith(b"text")
        assert server.has_ring()
        pid = server.process.pid
        assert len(os.listdir(f"/proc/{pid}/task")) <= 1 + count_workers(pid)
        server.stop()


def count_workers(pid: int) -> int:
    """The kernel's own threads in a process."""
    names = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/comm")]
    return sum(name.startswith("iou-") for name in names)
