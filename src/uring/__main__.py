"""The doctor: ``python -m uring`` says whether io_uring can be used here, what it has, and what to change.

It opens the ring that a program would open and sends a no-op through it. Where the kernel can be asked, no
answer comes from a version or a setting. The report is a dictionary, printed as a table or as JSON.

Exit status: 0 io_uring is usable, 1 it is not, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import errno
import json
import mmap
import os
import platform
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import __version__
from .abi import (
    IORING_OP_NOP,
    IORING_OP_TIMEOUT_REMOVE,
    IORING_REGISTER_ENABLE_RINGS,
    IORING_REGISTER_QUERY,
    IORING_REGISTER_RESTRICTIONS,
    IORING_RESTRICTION_SQE_OP,
    IORING_SETUP_CQSIZE,
    IORING_SETUP_DEFER_TASKRUN,
    IORING_SETUP_NO_SQARRAY,
    IORING_SETUP_R_DISABLED,
    IORING_SETUP_SINGLE_ISSUER,
    IORING_SETUP_SUBMIT_ALL,
    IORING_SETUP_TASKRUN_FLAG,
    Enter,
    Feature,
    Register,
    Setup,
    Sqe,
)
from .abi.layouts import RESTRICTION
from .errors import RingUnavailable, unavailable_from_errno
from .kernel.buffers import BufferRing
from .kernel.lib import NOT_BUILT, lib
from .kernel.memory import zeroed
from .kernel.refusals import first_completions
from .kernel.ring import CQE, KernelRing
from .opcodes import OPCODES
from .probe import probe

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from enum import IntEnum, IntFlag

    from .probe import Probe

__all__ = ["examine", "main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the report; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m uring",
        description="Says whether io_uring can be used on this machine, what it has, and what to change.",
        epilog="Exit status: 0 usable, 1 not usable, 2 wrong usage.",
    )
    parser.add_argument("--version", action="version", version=f"uring {__version__}")
    parser.add_argument("--json", action="store_true", help="print the report for machines")
    parser.add_argument(
        "--entries",
        type=_queue_size,
        default=256,
        metavar="N",
        help="size of the ring to try, 1 to 32768 (default 256)",
    )
    options = parser.parse_args(argv)
    report = examine(options.entries)
    lines = _lines(report, shutil.get_terminal_size((100, 24)).columns)
    try:
        print(json.dumps(report, indent=2) if options.json else "\n".join(lines), flush=True)
    except BrokenPipeError:
        # The reader (such as head) closed the pipe, and Python would flush again at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0 if report["usable"] else 1


def examine(entries: int = 256) -> dict[str, Any]:
    """The doctor's findings, in JSON's types.

    ``usable`` is the verdict, ``problems`` say why not, ``warnings`` what else to change. ``kernel`` and
    ``settings`` describe the machine. ``restrictions``: whether the kernel refuses an operation that a
    restricted ring's list lacks. ``operations``, ``setup_flags``, ``features``, ``registrations``,
    ``enter_flags`` and ``entry_flags`` map each name to whether the kernel has it, and are missing where it
    could not be asked.
    """
    report: dict[str, Any] = {"usable": False, "problems": [], "system": sys.platform}
    report["kernel"] = f"{platform.release()} {platform.machine()}"
    report["python"] = f"{platform.python_implementation()} {platform.python_version()}"
    if sys.platform != "linux":
        report["problems"].append(f"io_uring is a part of Linux; this is {sys.platform}")
        return report
    report["settings"] = _settings()
    report["warnings"] = _startup_warnings()
    if lib is None:
        report["problems"].append(NOT_BUILT)
        return report
    report["ring"] = {"entries": entries, "cq_entries": 16 * entries}
    try:
        _try_ring(entries)
        found = probe()
        report["restrictions"] = _restrictions_hold()
    except OSError as exc:
        report["problems"].append(str(exc))
        report["errno"] = errno.errorcode.get(exc.errno or 0, str(exc.errno))
        if isinstance(exc, RingUnavailable):
            report["hint"] = exc.hint
        return report
    report |= _what_there_is(found)
    if not found.queried:
        report["problems"].append(
            f"Linux 6.18 or later is needed: the running kernel, {platform.release()}, lacks "
            f"{IORING_REGISTER_QUERY.name}"
        )
    report["usable"] = not report["problems"]
    return report


# ---- examining -----------------------------------------------------------------------------------------

_SETUP = (
    IORING_SETUP_SINGLE_ISSUER
    | IORING_SETUP_DEFER_TASKRUN
    | IORING_SETUP_TASKRUN_FLAG
    | IORING_SETUP_SUBMIT_ALL
    | IORING_SETUP_NO_SQARRAY
    | IORING_SETUP_CQSIZE
)
_MOST_COMPLETIONS = 65536
_NO_OP_SECONDS = 5.0
_SECCOMP = {"0": "off", "1": "strict", "2": "filter"}


def _startup_warnings() -> list[str]:
    """Why a variable ``URING_TRIO`` in the environment has no effect in this interpreter, if it has none."""
    value = os.environ.get("URING_TRIO", "").strip()
    if value in ("", "0") or "_uring_trio_startup" in sys.modules:
        return []
    if sys.flags.ignore_environment:
        why = "this interpreter was started with -E or -I, which ignore it"
    elif sys.flags.no_site:
        why = "this interpreter was started with -S, which reads no .pth files"
    else:
        folder = Path(__file__).parents[1]
        why = (
            f"Python reads no .pth files in {folder}, where the package is (pip install --target does that, "
            "PYTHONPATH too): install it into the environment, or start the program with python -m uring_trio"
        )
    return [f"URING_TRIO={value} has no effect: {why}"]


def _queue_size(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 32768:
        raise argparse.ArgumentTypeError(f"a size is 1 to 32768, not {text!r}")
    return int(text)


def _settings() -> dict[str, Any]:
    status = _process_status()
    soft, hard = _memlock()
    return {
        "io_uring_disabled": _sysctl("io_uring_disabled"),
        "io_uring_group": _sysctl("io_uring_group"),
        "memlock_soft": soft,
        "memlock_hard": hard,
        "seccomp": _SECCOMP.get(status.get("Seccomp", ""), "unknown"),
        "seccomp_filters": int(status.get("Seccomp_filters", 0)),
    }


def _process_status() -> dict[str, str]:
    try:
        text = Path("/proc/self/status").read_text()
    except OSError:
        return {}
    pairs = (line.partition(":") for line in text.splitlines())
    return {name: value.strip() for name, _, value in pairs}


def _sysctl(name: str) -> int | None:
    """The setting's value; None where there is none, as on kernels without it."""
    try:
        return int(Path("/proc/sys/kernel", name).read_text())
    except (OSError, ValueError):
        return None


def _memlock() -> tuple[int | None, int | None]:
    """The soft and the hard limit in bytes; None is unlimited."""
    # Imported here since only Unix has it.
    from resource import RLIM_INFINITY, RLIMIT_MEMLOCK, getrlimit

    soft, hard = (None if limit == RLIM_INFINITY else limit for limit in getrlimit(RLIMIT_MEMLOCK))
    return soft, hard


def _try_ring(entries: int) -> None:
    """Opens a ring with the flags of a Trio run, registers what a run registers, and sends a no-op through
    it: a seccomp filter may forbid one of these alone."""
    ring = KernelRing(entries, int(_SETUP), cq_entries=min(16 * entries, _MOST_COMPLETIONS))
    eventfd = os.eventfd(0)
    try:
        try:
            ring.register_eventfd(eventfd)
            ring.unregister_eventfd()
            BufferRing(ring, 0, 1, mmap.PAGESIZE).close()
        except OSError as exc:
            raise unavailable_from_errno(exc.errno or 0, "io_uring_register", mmap.PAGESIZE) from exc
        ring.put(0, IORING_OP_NOP, 0, -1, 0, 0, 0, 0, 0, 0, 0)
        result = first_completions(ring, _NO_OP_SECONDS)
    finally:
        os.close(eventfd)
        ring.close()
    if result < 0:
        raise unavailable_from_errno(-result, "io_uring_enter")
    if result == 0:
        raise TimeoutError(errno.ETIMEDOUT, "a no-op sent through the ring did not complete")


def _restrictions_hold() -> bool:
    """Whether the kernel refuses an operation that a ring's list lacks, tried with a no-op."""
    ring = KernelRing(8, int(_SETUP | IORING_SETUP_R_DISABLED), cq_entries=16)
    try:
        memory = zeroed(RESTRICTION.size)
        RESTRICTION.pack_into(memory.view, 0, int(IORING_RESTRICTION_SQE_OP), int(IORING_OP_TIMEOUT_REMOVE))
        ring.register(int(IORING_REGISTER_RESTRICTIONS), memory.address, 1)
        ring.register(int(IORING_REGISTER_ENABLE_RINGS))
        ring.put(0, IORING_OP_NOP, 0, -1, 0, 0, 0, 0, 0, 0, 0)
        return first_completions(ring, _NO_OP_SECONDS) == 1 and CQE.unpack_from(ring.out)[1] == -errno.EACCES
    except OSError:
        return False
    finally:
        ring.close()


def _what_there_is(found: Probe) -> dict[str, Any]:
    report: dict[str, Any] = {
        "operations": {row.name: found.supports(row.number) for row in OPCODES},
        "setup_flags": _flags(Setup, found.setup_flags, "IORING_SETUP_"),
        "features": _flags(Feature, found.features, "IORING_FEAT_"),
        "registrations": {_short(row): row in found.register_ops for row in Register},
    }
    report["operations"] |= _unnamed(found.operations, [row.number for row in OPCODES])
    report["registrations"] |= _unnamed(found.register_ops, Register)
    if found.queried:
        report["enter_flags"] = _flags(Enter, found.enter_flags, "IORING_ENTER_")
        report["entry_flags"] = _flags(Sqe, found.entry_flags, "IOSQE_")
    return report


def _flags(kind: type[IntFlag], present: int, prefix: str) -> dict[str, bool]:
    named = {str(flag.name).removeprefix(prefix): bool(flag & present) for flag in kind}
    bits = (1 << bit for bit in range(64))
    known = sum(kind)
    return named | {hex(bit): True for bit in bits if bit & present & ~known}


def _short(opcode: Register) -> str:
    # UNREGISTER_BUFFERS keeps its verb, beside BUFFERS.
    return opcode.name.removeprefix("IORING_").removeprefix("REGISTER_")


def _unnamed(present: Iterable[int], named: Iterable[IntEnum]) -> dict[str, bool]:
    """Features of the kernel that this package has no name for."""
    return {str(number): True for number in sorted(set(present) - set(named))}


# ---- printing ------------------------------------------------------------------------------------------

_TITLES = {
    "operations": "operations",
    "setup_flags": "set-up flags",
    "features": "features",
    "registrations": "registrations",
    "enter_flags": "enter flags",
    "entry_flags": "entry flags",
}
_SINCE = {row.name: row.since for row in OPCODES}


def _lines(report: dict[str, Any], width: int) -> list[str]:
    if "settings" not in report:
        return [f"{report['problems'][0]}."]
    lines = [f"io_uring is {'usable' if report['usable'] else 'not usable'} here"]
    lines += [f"  {problem}" for problem in report["problems"]]
    lines += [f"  warning: {warning}" for warning in report["warnings"]]
    settings = report["settings"]
    rows = [
        ("kernel", report["kernel"]),
        ("python", report["python"]),
        ("kernel.io_uring_disabled", _disabled(settings["io_uring_disabled"])),
        ("kernel.io_uring_group", _group(settings["io_uring_group"])),
        ("RLIMIT_MEMLOCK", f"{_size(settings['memlock_soft'])}, at most {_size(settings['memlock_hard'])}"),
        ("seccomp", _seccomp(settings)),
    ]
    if "ring" in report:
        outcome = "refused" if "errno" in report else "opened, and a no-op completed"
        rows.append(("ring", f"{report['ring']['entries']} entries: {outcome}"))
    if "restrictions" in report:
        rows.append(("restrictions", "enforced" if report["restrictions"] else "not enforced"))
    lines += ["", *(f"{name:<25} {value}" for name, value in rows)]
    for key, title in _TITLES.items():
        if key in report:
            lines += ["", *_grid(title, report[key], width)]
    return lines


def _grid(title: str, table: dict[str, bool], width: int) -> list[str]:
    cells = [f"{'yes' if there else ' no'} {_labelled(name, there)}" for name, there in table.items()]
    cell = max(map(len, cells)) + 2
    columns = max(1, (width - 2) // cell)
    rows = -(-len(cells) // columns)
    lines = [f"{title}: {sum(table.values())} of {len(table)}"]
    for row in range(rows):
        lines.append("  " + "".join(text.ljust(cell) for text in cells[row::rows]).rstrip())
    return lines


def _labelled(name: str, there: bool) -> str:
    return name if there or name not in _SINCE else f"{name} (Linux {_SINCE[name]})"


def _disabled(value: int | None) -> str:
    meaning = {
        None: "no such setting",
        0: "0, everyone may use it",
        1: "1, for CAP_SYS_ADMIN and the group below",
        2: "2, nobody may use it",
    }
    return meaning.get(value, str(value))


def _group(value: int | None) -> str:
    if value is None:
        return "no such setting"
    return "-1, no group" if value == -1 else str(value)


def _size(limit: int | None) -> str:
    return "unlimited" if limit is None else f"{limit // 1024} KiB"


def _seccomp(settings: dict[str, Any]) -> str:
    count = settings["seccomp_filters"]
    return f"{settings['seccomp']}, {count} filters" if count else str(settings["seccomp"])


if __name__ == "__main__":
    sys.exit(main())
