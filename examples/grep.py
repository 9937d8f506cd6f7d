"""Searches files and directories for a regular expression, many files at a time and without a thread for
them.

    python examples/grep.py PATTERN PATH...

Prints ``path:number:line`` for each line that matches, in the order of the paths. Files that are no text are
skipped. Directories are listed in a thread, since the ring has no operation for that.
"""

import os
import re
import sys

import trio

import uring_trio

AT_ONCE = 32


async def main(pattern: str, roots: list[str]) -> int:
    expression = re.compile(pattern)
    paths = [path for root in roots for path in await trio.to_thread.run_sync(files_below, root)]
    found: dict[str, list[str]] = {}
    limit = trio.CapacityLimiter(AT_ONCE)

    async def search(path: str) -> None:
        async with limit:
            found[path] = await matches(expression, path)

    async with trio.open_nursery() as nursery:
        for path in paths:
            nursery.start_soon(search, path)
    for path in paths:
        print(*found[path], sep="", end="")
    return 0 if any(found.values()) else 1


async def matches(expression: re.Pattern[str], path: str) -> list[str]:
    lines: list[str] = []
    number = 0
    try:
        async with await uring_trio.open_file(path) as file:
            async for line in file:
                number += 1
                if expression.search(line):
                    lines.append(f"{path}:{number}:{line.rstrip()}\n")
    except UnicodeDecodeError:
        return []
    except OSError as exc:
        print(f"{path}: {exc.strerror}", file=sys.stderr)
    return lines


def files_below(root: str) -> list[str]:
    if not os.path.isdir(root):
        return [root]
    return sorted(os.path.join(folder, name) for folder, _, names in os.walk(root) for name in names)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        raise SystemExit(__doc__)
    raise SystemExit(uring_trio.run(main, sys.argv[1], sys.argv[2:]))
