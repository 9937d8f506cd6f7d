"""The variable URING_TRIO, as an interpreter of the virtual environment that the package is installed in
meets it: programs in processes of their own, unchanged."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from uring_trio import RingOptions
from uring_trio.launch.environment import NAME, Switch

REFUSE = Path(__file__).parents[2] / "refuse.py"
SETUP = 425

BACKEND = """
import trio

async def main():
    print(trio.lowlevel.current_statistics().io_statistics.backend, flush=True)

if __name__ == "__main__":
    trio.run(main)
"""


def python(
    program: str, variable: str | None, *before: str, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != NAME}
    if variable is not None:
        environment[NAME] = variable
    return subprocess.run(
        [sys.executable, *before, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment,
        cwd=cwd,
    )


def output_of(done: subprocess.CompletedProcess[str]) -> list[str]:
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


# ---- on and off ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "backend"),
    [(None, "epoll"), ("", "epoll"), ("0", "epoll"), ("1", "io_uring"), ("entries=64", "io_uring")],
)
def test_switches_trio(variable: str | None, backend: str) -> None:
    assert output_of(python(BACKEND, variable)) == [backend]


@pytest.mark.parametrize("first", ["trio", "uring_trio", "uring_trio.seams", "trio.socket", "anyio, trio"])
def test_whatever_is_imported_first(first: str) -> None:
    assert output_of(python(f"import {first}\n{BACKEND}", "1")) == ["io_uring"]


@pytest.mark.parametrize(("variable", "found"), [(None, []), ("1", ["_uring_trio_startup"])])
def test_a_program_without_trio_imports_next_to_nothing(variable: str | None, found: list[str]) -> None:
    program = "import sys; print(*(name for name in sys.modules if 'trio' in name))"
    assert output_of(python(program, variable)) == [" ".join(found)]


def test_trio_looks_as_it_always_does() -> None:
    program = """
import importlib.resources, inspect, trio
print(trio.__spec__.loader is trio.__loader__, vars(trio.__loader__).keys())
print(inspect.getsourcefile(trio), importlib.resources.files(trio).joinpath("py.typed").is_file())
"""
    assert output_of(python(program, "1")) == output_of(python(program, None))


def test_anyio_on_its_backend_trio_and_asyncio() -> None:
    program = """
import anyio, sniffio

async def main():
    if sniffio.current_async_library() == "trio":
        import trio
        print(trio.lowlevel.current_statistics().io_statistics.backend)
    else:
        print("asyncio")

for backend in ("trio", "uring", "asyncio"):
    anyio.run(main, backend=backend)
"""
    assert output_of(python(program, "1")) == ["io_uring", "io_uring", "asyncio"]


ENTRANCES = {
    "run": "anyio.run(main, backend='uring')",
    "portal": """
from anyio.from_thread import start_blocking_portal

with start_blocking_portal("uring") as portal:
    portal.call(main)
""",
    "client": """
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

async def answer(request):
    await main()
    return PlainTextResponse("")

with TestClient(Starlette(routes=[Route("/", answer)]), backend="uring") as client:
    assert client.get("/").status_code == 200
""",
}


@pytest.mark.parametrize("entrance", ENTRANCES)
def test_a_program_that_imports_anyio_alone_names_the_backend(entrance: str) -> None:
    """AnyIO looks the name up before anything imports Trio."""
    program = """
import anyio

async def main():
    import trio

    print(trio.lowlevel.current_statistics().io_statistics.backend)

"""
    program += ENTRANCES[entrance]
    # Starlette warns of the HTTP client that it has been tested with for years.
    assert output_of(python(program, "1", "-W", "ignore")) == ["io_uring"]
    assert python(program, None).returncode == python(program, "0").returncode == 1


@pytest.mark.parametrize("flag", ["-E", "-I"])
def test_an_interpreter_that_ignores_the_environment_ignores_it(flag: str) -> None:
    assert output_of(python(BACKEND, "1", flag)) == ["epoll"]
    assert output_of(python(BACKEND, "no such setting", flag)) == ["epoll"]


@pytest.mark.parametrize("variable", ["0", " 0 "])
def test_a_variable_that_says_no_costs_nothing(variable: str) -> None:
    program = "import sys, trio; print('uring_trio' in sys.modules)"
    assert output_of(python(program, variable)) == ["False"]


def test_the_settings_reach_the_ring() -> None:
    program = """
import trio, uring_trio
from uring_trio.core.engine import current

async def main():
    options = current().options
    print(options.entries, options.buffers, options.deadlines)

trio.run(main)
uring_trio.run(main)
"""
    assert output_of(python(program, "1,entries=64, buffers=16,deadlines=link")) == ["64 16 link"] * 2


@pytest.mark.parametrize(("variable", "found"), [("1", "True"), ("files=0", "False")])
def test_files_too(variable: str, found: str) -> None:
    program = """
import sys, trio
from trio import open_file

async def main():
    async with await open_file(sys.executable, "rb") as file:
        print(type(file).__module__.startswith("uring_trio"))

trio.run(main)
"""
    assert output_of(python(program, variable)) == [found]


def test_stats_at_exit() -> None:
    done = python(BACKEND, "stats=1")
    assert (done.returncode, done.stdout) == (0, "io_uring\n")
    assert re.fullmatch(r"uring_trio \(process \d+\): runs 1, submitted \d+, .*leaked 0\n", done.stderr)


# ---- other processes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_children_of_multiprocessing(method: str, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(
        BACKEND.partition("if __name__")[0]
        + f"""
import multiprocessing

def child():
    trio.run(main)

if __name__ == "__main__":
    process = multiprocessing.get_context({method!r}).Process(target=child)
    process.start()
    process.join()
"""
    )
    run = "import subprocess, sys; sys.exit(subprocess.call([sys.executable, 'program.py']))"
    assert output_of(python(run, "1", cwd=tmp_path)) == ["io_uring"]
    assert output_of(python(run, None, cwd=tmp_path)) == ["epoll"]


def test_a_python_that_is_started_by_hand_inherits_it(tmp_path: Path) -> None:
    (tmp_path / "child.py").write_text(BACKEND)
    program = "import subprocess, sys; subprocess.run([sys.executable, 'child.py'], check=True)"
    assert output_of(python(program, "1", cwd=tmp_path)) == ["io_uring"]


# ---- where it cannot be --------------------------------------------------------------------------------


def refused(program: str, variable: str) -> subprocess.CompletedProcess[str]:
    return python(program, variable, str(REFUSE), json.dumps([(SETUP, -1, errno.EPERM)]))


def test_where_io_uring_is_refused_a_run_fails_and_says_why() -> None:
    done = refused(BACKEND, "1")
    assert (done.returncode, done.stdout) == (1, "")
    last = done.stderr.splitlines()[-1]
    assert "RingUnavailable" in last
    assert "seccomp" in last


def test_where_io_uring_is_refused_other_programs_do_not_mind() -> None:
    assert output_of(refused("import trio; print(trio.Event.__name__)", "1")) == ["Event"]


def test_where_io_uring_is_refused_it_can_go_on_with_epoll() -> None:
    done = refused(BACKEND, "unavailable=epoll")
    assert (done.returncode, done.stdout) == (0, "epoll\n")
    assert "RuntimeWarning: running on epoll" in done.stderr


OWN = """
import anyio, trio, uring_trio

async def main():
    print(trio.lowlevel.current_statistics().io_statistics.backend, flush=True)

uring_trio.run(main)
anyio.run(main, backend="uring")
try:
    uring_trio.run(main, unavailable="raise")
except uring_trio.RingUnavailable:
    print("refused")
uring_trio.uninstall()
try:
    uring_trio.run(main)
except uring_trio.RingUnavailable:
    print("refused")
"""


def test_where_io_uring_is_refused_a_program_that_asks_for_the_ring_follows_too() -> None:
    done = refused(OWN, "unavailable=epoll")
    assert (done.returncode, done.stdout.split()) == (0, ["epoll", "epoll", "refused", "refused"])
    assert done.stderr.count("RuntimeWarning: running on epoll") == 1


@pytest.mark.parametrize(
    ("variable", "says"),
    [
        ("yes", "URING_TRIO is 1, 0, or name=value with buffer_size, buffers, .*; not 'yes'"),
        ("1,epoll", "not 'epoll'"),
        ("entires=64", "not 'entires=64'"),
        ("entries=many", "URING_TRIO: entries is a number, not 'many'"),
        ("entries=3", "URING_TRIO: entries is a power of two, not 3"),
        ("unavailable=ignore", "URING_TRIO: unavailable is raise or epoll, not 'ignore'"),
        ("files=yes", "URING_TRIO: files is 0 or 1, not 'yes'"),
    ],
)
def test_a_wrong_value_stops_the_program(variable: str, says: str) -> None:
    done = python(BACKEND, variable)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.search(f"^ValueError: .*{says}", done.stderr.splitlines()[-1])
    assert output_of(python("print('without Trio')", variable)) == ["without Trio"]


def test_under_pytest(tmp_path: Path) -> None:
    """Which has a finder of its own before all others for packages with a plugin, as this one is."""
    test = tmp_path / "test_it.py"
    test.write_text(f"def test():\n    exec({BACKEND!r}, {{'__name__': '__main__'}})\n")
    program = f"""
import pytest, sys
sys.exit(pytest.main(["-q", "-s", "-W", "error", "-p", "no:cacheprovider", "--rootdir=.", {str(test)!r}]))
"""
    done = python(program, "1", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "io_uring" in done.stdout


# ---- the text ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "switch",
    [
        Switch(),
        Switch(RingOptions(entries=64, deadlines="link"), "epoll", stats=True),
        Switch(files=False),
    ],
)
def test_what_is_exported_is_what_is_read(switch: Switch) -> None:
    environment: dict[str, str] = {}
    switch.export(environment)
    assert Switch.parse(environment[NAME]) == switch


# ---- figures of a process that is killed ---------------------------------------------------------------

KILLED = """
import os, signal, trio, uring_trio

async def main():
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        pass
    print("ready", flush=True)
    await trio.sleep_forever()

trio.run(main)
"""
HANDLED = """
import signal, trio

async def main():
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        print("ready", flush=True)
        async for _ in signals:
            return

trio.run(main)
"""


@pytest.mark.parametrize(("program", "status"), [(KILLED, -signal.SIGTERM), (HANDLED, 0)])
def test_figures_are_told_once_on_sigterm(program: str, status: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, NAME: "1,stats=1"},
    ) as started:
        assert started.stdout is not None
        assert started.stdout.readline() == "ready\n"
        started.terminate()
        _, errors = started.communicate(timeout=60)
    assert started.returncode == status
    (line,) = errors.splitlines()
    assert line.startswith(f"uring_trio (process {started.pid}): runs 1, submitted ")


@pytest.mark.parametrize("text", ["1,compiled=0", "1,monitor=1", "1,compiled=0,monitor=1,stats=1"])
def test_options_that_are_on_or_off_reach_children(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("URING_TRIO_COMPILED", raising=False)  # which would be what an option defaults to
    switch = Switch.parse(text)
    assert switch is not None
    assert Switch.parse(str(switch)) == switch
    assert sorted(str(switch).split(",")) == sorted(text.split(","))
