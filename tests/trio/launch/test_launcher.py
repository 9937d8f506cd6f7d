"""The launcher, as a user types it: programs in processes of their own, run by Python and by the launcher."""

import errno
import importlib.metadata
import json
import os
import py_compile
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

LAUNCHER = ("-m", "uring_trio")
REFUSE = Path(__file__).parents[2] / "refuse.py"
SETUP = 425

BACKEND = """
import trio

async def main():
    print(trio.lowlevel.current_statistics().io_statistics.backend)

trio.run(main)
"""

ECHO_ITSELF = """
import sys, trio

async def main():
    near, far = trio.socket.socketpair()
    with near, far:
        await near.send(b"through the ring")
        print((await far.recv(100)).decode())

trio.run(main)
"""

WHO_AM_I = """
import os, sys

print(__name__, *sys.argv)
print(sys.path[0], os.path.abspath(__file__))
print(sys.modules["__main__"].__dict__ is globals())
"""


def run(*args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *args], capture_output=True, text=True, timeout=60, check=False, cwd=cwd
    )


def launch(*args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return run(*LAUNCHER, *args, cwd=cwd)


def output_of(done: subprocess.CompletedProcess[str]) -> list[str]:
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def program(folder: Path, text: str, name: str = "program.py") -> str:
    (folder / name).write_text(text)
    return name


# ---- what runs, and on what ----------------------------------------------------------------------------


def test_a_script_runs_on_the_ring(tmp_path: Path) -> None:
    script = program(tmp_path, BACKEND)
    assert output_of(run(script, cwd=tmp_path)) == ["epoll"]
    assert output_of(launch(script, cwd=tmp_path)) == ["io_uring"]


def test_a_module_runs_on_the_ring(tmp_path: Path) -> None:
    program(tmp_path, BACKEND)
    assert output_of(launch("-m", "program", cwd=tmp_path)) == ["io_uring"]
    assert output_of(launch("-mprogram", cwd=tmp_path)) == ["io_uring"]


@pytest.mark.parametrize("before", [("-c",), ("--unavailable=epoll", "-c"), ("-W",)])
def test_a_text_runs_on_the_ring(tmp_path: Path, before: tuple[str, ...]) -> None:
    if before == ("-W",):  # an option of Python's in front, and the text in the same word
        assert output_of(run("-W", "error", "-m", "uring_trio", f"-c{BACKEND}", cwd=tmp_path)) == ["io_uring"]
    else:
        assert output_of(launch(*before, BACKEND, cwd=tmp_path)) == ["io_uring"]


@pytest.mark.parametrize(
    "text",
    [
        "import sys; print(__name__, sys.argv, sys.path[0], __spec__, __loader__)",
        "print('__file__' in globals(), __builtins__ is __import__('builtins'))",
        "import sys; print(sys.modules['__main__'].__dict__ is globals()); sys.exit(3)",
        "print(sorted(globals()))",
        "    print('indented')",
        "raise ValueError('with its traceback')",
        "f(",
    ],
)
def test_a_text_sees_what_python_shows_it(tmp_path: Path, text: str) -> None:
    stock = run("-c", text, "-m", "x", "--stats", cwd=tmp_path)
    ring = launch("-c", text, "-m", "x", "--stats", cwd=tmp_path)
    assert (ring.returncode, ring.stdout) == (stock.returncode, stock.stdout)
    assert ring.stderr.splitlines()[-1:] == stock.stderr.splitlines()[-1:]


@pytest.mark.parametrize("package", ["uring", "uring_trio"])
def test_its_version(tmp_path: Path, package: str) -> None:
    installed = importlib.metadata.version("uring-trio")
    assert output_of(run("-m", package, "--version", cwd=tmp_path)) == [f"{package} {installed}"]
    assert output_of(run("-c", f"import {package} as it; print(it.__version__)", cwd=tmp_path)) == [installed]


def test_asyncio_stays_asyncio(tmp_path: Path) -> None:
    script = program(
        tmp_path,
        "import asyncio, sniffio\n"
        "async def main():\n"
        "    print(sniffio.current_async_library(), type(asyncio.get_running_loop()).__name__)\n"
        "asyncio.run(main())\n",
    )
    assert output_of(launch(script, cwd=tmp_path)) == output_of(run(script, cwd=tmp_path))


def test_anyio_runs_on_the_ring(tmp_path: Path) -> None:
    script = program(
        tmp_path, BACKEND.replace("trio.run(main)", "import anyio; anyio.run(main, backend='trio')")
    )
    assert output_of(launch(script, cwd=tmp_path)) == ["io_uring"]


def test_an_installed_program_runs_on_the_ring(tmp_path: Path) -> None:
    test = program(tmp_path, f"import sys\ndef test():\n    exec({BACKEND!r}, {{}})\n", "test_it.py")
    done = launch("pytest", "-q", "-s", "-p", "no:cacheprovider", "--rootdir", ".", test, cwd=tmp_path)
    assert done.returncode == 0
    assert "io_uring" in done.stdout
    assert "1 passed" in done.stdout


@pytest.mark.parametrize("args", [[], ["--stats", "--ring=x"], ["-m", "x", "--", "y"], ["--"], ["", "ä b"]])
def test_a_script_sees_what_python_shows_it(tmp_path: Path, args: list[str]) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    program(folder, WHO_AM_I)
    script = os.path.join("folder", "program.py")
    assert output_of(launch(script, *args, cwd=tmp_path)) == output_of(run(script, *args, cwd=tmp_path))
    assert output_of(launch("--", script, *args, cwd=tmp_path)) == output_of(run(script, *args, cwd=tmp_path))


@pytest.mark.parametrize("args", [[], ["--stats", "--ring=x"], ["-m", "x", "--", "y"], ["--"]])
def test_a_module_sees_what_python_shows_it(tmp_path: Path, args: list[str]) -> None:
    program(tmp_path, WHO_AM_I)
    expected = output_of(run("-m", "program", *args, cwd=tmp_path))
    assert output_of(launch("-m", "program", *args, cwd=tmp_path)) == expected


def test_a_linked_script_finds_its_neighbours(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    program(folder, "print('found')", "neighbour.py")
    program(folder, "import neighbour")
    (tmp_path / "link.py").symlink_to(folder / "program.py")
    assert output_of(launch("link.py", cwd=tmp_path)) == ["found"]


def test_what_outlives_a_script_finds_its_module(tmp_path: Path) -> None:
    text = """
import atexit, pickle, threading

class Thing:
    kept: int = 1

def copy():
    print(type(pickle.loads(pickle.dumps(Thing()))) is Thing)

def later(main=threading.current_thread()):
    main.join()
    copy()

atexit.register(copy)
threading.Thread(target=later).start()
"""
    script = program(tmp_path, text)
    assert output_of(launch(script, cwd=tmp_path)) == output_of(run(script, cwd=tmp_path)) == ["True", "True"]


def test_compiled_scripts_run(tmp_path: Path) -> None:
    compiled = py_compile.compile(str(tmp_path / program(tmp_path, WHO_AM_I)), str(tmp_path / "compiled.pyc"))
    assert compiled is not None
    assert output_of(launch("compiled.pyc", cwd=tmp_path)) == output_of(run("compiled.pyc", cwd=tmp_path))


def test_folders_and_archives_run(tmp_path: Path) -> None:
    text = f"import neighbour, sys\n{BACKEND}\nprint(len(sys.argv), sys.path[0])"
    with zipfile.ZipFile(tmp_path / "archive.pyz", "w") as archive:
        archive.writestr("__main__.py", text)
        archive.writestr("neighbour.py", "")
    (tmp_path / "folder").mkdir()
    program(tmp_path / "folder", text, "__main__.py")
    program(tmp_path / "folder", "", "neighbour.py")
    for name in ("archive.pyz", "folder"):
        assert output_of(launch(name, "x", cwd=tmp_path)) == ["io_uring", f"2 {tmp_path / name}"]


def test_safe_path_keeps_the_folder_out(tmp_path: Path) -> None:
    program(tmp_path, "print('found')", "neighbour.py")
    script = program(tmp_path, "import neighbour")
    done = run("-P", *LAUNCHER, script, cwd=tmp_path)
    assert done.returncode == 1
    assert "No module named 'neighbour'" in done.stderr


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_children_of_the_program_are_on_the_ring(tmp_path: Path, method: str) -> None:
    script = program(
        tmp_path,
        f"""
import multiprocessing, trio

async def main():
    print(trio.lowlevel.current_statistics().io_statistics.backend, flush=True)

if __name__ == "__main__":
    child = multiprocessing.get_context({method!r}).Process(target=trio.run, args=(main,))
    child.start()
    child.join()
    trio.run(main)
""",
    )
    assert output_of(launch(script, cwd=tmp_path)) == ["io_uring", "io_uring"]
    assert output_of(run(script, cwd=tmp_path)) == ["epoll", "epoll"]


def test_children_have_the_same_options(tmp_path: Path) -> None:
    program(tmp_path, "import os\nprint(os.environ['URING_TRIO'])", "child.py")
    script = program(
        tmp_path, "import subprocess, sys; subprocess.run([sys.executable, 'child.py'], check=True)"
    )
    done = launch("--ring", "entries=64", "--unavailable", "epoll", "--stats", script, cwd=tmp_path)
    assert done.stdout == "1,entries=64,unavailable=epoll,stats=1\n"


# ---- how it ends ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "",
        "raise SystemExit(3)",
        "import sys; sys.exit('a message')",
        "1 / 0",
        "import os; os._exit(7)",
        "import nosuch",
    ],
)
def test_the_exit_status_is_the_programs(tmp_path: Path, text: str) -> None:
    script = program(tmp_path, text)
    plain, launched = run(script, cwd=tmp_path), launch(script, cwd=tmp_path)
    assert launched.returncode == plain.returncode
    assert launched.stderr.splitlines()[-1:] == plain.stderr.splitlines()[-1:]
    assert launch("-m", "program", cwd=tmp_path).returncode == plain.returncode


def test_ctrl_c_is_the_programs(tmp_path: Path) -> None:
    script = program(
        tmp_path,
        "import trio\n"
        "async def main():\n"
        "    try:\n"
        "        print('ready', flush=True)\n"
        "        await trio.sleep_forever()\n"
        "    finally:\n"
        "        print('cleaned up', flush=True)\n"
        "trio.run(main)\n",
    )
    with subprocess.Popen(
        [sys.executable, *LAUNCHER, script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT
    assert out == "cleaned up\n"
    assert err.splitlines()[-1] == "KeyboardInterrupt"


# ---- its own options -----------------------------------------------------------------------------------


def test_stats_tell_what_the_rings_did(tmp_path: Path) -> None:
    done = launch("--stats", program(tmp_path, ECHO_ITSELF), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "through the ring\n")
    counts = dict(part.split() for part in done.stderr.partition("): ")[2].split(", "))
    assert counts["runs"] == "1"
    # A wait for readiness stays armed and may complete more than once.
    assert int(counts["completed"]) >= int(counts["submitted"]) > 0
    assert int(counts["leaked"]) == 0


def test_stats_count_no_run_where_there_was_none(tmp_path: Path) -> None:
    done = launch("--stats", program(tmp_path, "raise SystemExit(4)"), cwd=tmp_path)
    assert done.returncode == 4
    _, _, counts = done.stderr.partition("): ")
    assert counts == "runs 0, submitted 0, completed 0, enters 0, leaked 0\n"


def test_the_ring_is_as_asked_for(tmp_path: Path) -> None:
    script = program(
        tmp_path,
        "import trio\n"
        "from uring_trio.core.engine import current\n"
        "async def main(): print(current().options)\n"
        "trio.run(main)\n",
    )
    (shown,) = output_of(launch("--ring", "entries=64,buffers=16", script, cwd=tmp_path))
    assert "entries=64," in shown
    assert "buffers=16," in shown


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        ([], "name a script"),
        (["--stats"], "name a script"),
        (["-m"], "name a script"),
        (["--ring"], "expected one argument"),
        (["--ring", "entries=3", "program.py"], "entries is a power of two, not 3"),
        (["--ring", "colour=3", "program.py"], "ring options are"),
        (["--unavailable", "ignore", "program.py"], "invalid choice"),
        (["--stat", "program.py"], "unrecognized arguments"),
        (["nosuch.py"], "nosuch.py is neither a script nor an installed program"),
        (["empty"], "empty is neither a script nor an installed program"),
    ],
)
def test_wrong_usage(tmp_path: Path, args: list[str], complaint: str) -> None:
    (tmp_path / "empty").mkdir()
    program(tmp_path, "print('it ran')")
    done = launch(*args, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert complaint in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("name", ["nosuch", "nosuch.inner", "program.inner"])
def test_no_such_module(tmp_path: Path, name: str) -> None:
    program(tmp_path, "print('it ran')")
    done = launch("-m", name, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, f"python -m uring_trio: no module named {name}\n")


# ---- where io_uring is refused -------------------------------------------------------------------------


def test_without_io_uring_it_says_why(tmp_path: Path) -> None:
    rules = json.dumps([(SETUP, -1, errno.EPERM)])
    done = run(str(REFUSE), rules, *LAUNCHER, program(tmp_path, BACKEND), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("python -m uring_trio: [Errno 1]")
    assert "seccomp" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_without_io_uring_it_can_go_on_with_epoll(tmp_path: Path) -> None:
    rules = json.dumps([(SETUP, -1, errno.EPERM)])
    script = program(tmp_path, BACKEND)
    done = run(str(REFUSE), rules, *LAUNCHER, "--unavailable", "epoll", script, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "epoll\n")
    assert "RuntimeWarning: running on epoll" in done.stderr
