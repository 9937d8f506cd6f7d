"""``python -m tests.faults.suite``: the tests, while io_uring_enter(2) fails again and again by ``strace``.

A failing enter changes nothing that a program sees: what is queued goes to the kernel with the next one. Left
out are tests of what is submitted *at once*, in the step of the task that asks for it: a failed enter puts it
off to the end of the tick, and they look before that.

    python -m tests.faults.suite                     the tests of Trio's side, EAGAIN at every 13th enter
    python -m tests.faults.suite --error EINTR --every 7 tests/trio/net
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = [f"tests/trio/{room}" for room in ("core", "net", "fs", "ipc", "multishot")]
AT_ONCE = (
    "tests/trio/core/test_cancels.py::test_each_close_cancels_what_waits_on_that_descriptor_alone",
    "tests/trio/core/test_deadlines.py::test_busy_loop_leaves_data_after_the_deadline_in_the_socket",
    "tests/trio/core/test_deadlines.py::test_busy_loop_leaves_data_before_trios_own_deadline_in_the_socket",
    "tests/trio/core/test_perform.py::test_the_file_is_held_from_the_call_on",
    "tests/trio/net/test_socket_receive.py::test_ending_the_socket_wakes_the_receiver",
    "tests/trio/net/test_socket_close.py::test_a_listeners_address_is_free_at_once",
    # What gathers in the socket depends on when the wait before it ends.
    "tests/trio/net/test_chunks.py::test_bundles_fill_several_buffers_at_once",
    "tests/trio/net/test_receive_coalescing.py::test_a_bundle_has_what_gathered",
    # It enters a second ring by hand, and looks at what that gave.
    "tests/trio/core/test_cancels.py::test_race_07_a_completion_of_a_former_use_is_dropped",
)


def main() -> None:
    assert __doc__
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.suite",
        description=__doc__.split(":", 1)[1],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--error", default="EAGAIN", help="what the enters fail with (EAGAIN)")
    parser.add_argument("--every", type=int, default=13, help="which enters fail (every 13th)")
    args, words = parser.parse_known_args()
    strace = shutil.which("strace")
    if strace is None:
        parser.error("there is no strace (Debian, Ubuntu: apt-get install strace)")
    with tempfile.NamedTemporaryFile() as log:
        inject = f"inject=io_uring_enter:error={args.error}:when=7+{args.every}"
        status = subprocess.run(
            [strace, "-f", "--seccomp-bpf", "-q", "-e", "trace=io_uring_enter", "-e", inject, "-o", log.name]
            + [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
            + [f"--deselect={test}" for test in AT_ONCE]
            + (words or FOLDERS),
            cwd=ROOT,
            check=False,
        ).returncode
        failed = len(re.findall(r"\(INJECTED\)$", Path(log.name).read_text(), re.MULTILINE))
    print(f"{failed} enters failed with {args.error}")
    sys.exit(status or (0 if failed else "no enter failed"))


if __name__ == "__main__":
    main()
