"""Requires that pyright knows the type of everything the packages named on the command line export."""

import json
import os
import subprocess
import sys

PYRIGHT = [sys.executable, "-m", "pyright", "--outputjson", "--ignoreexternal", "--verifytypes"]


def main() -> int:
    return 1 if [package for package in sys.argv[1:] if not verify(package)] else 0


def verify(package: str) -> bool:
    # It looks for packages where the first python on PATH does, and in this mode takes no other hint.
    path = f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}"
    ran = subprocess.run(
        [*PYRIGHT, package], env={**os.environ, "PATH": path}, stdout=subprocess.PIPE, text=True, check=False
    )
    report = json.loads(ran.stdout)["typeCompleteness"]
    for symbol in report["symbols"]:
        if symbol["isExported"] and not symbol["isTypeKnown"]:
            for diagnostic in symbol["diagnostics"]:
                print(f"{symbol['name']}: {diagnostic['message']}")
    counts = report["exportedSymbolCounts"]
    known, total = counts["withKnownType"], sum(counts.values())
    print(f"{package}: pyright knows the types of {known} of {total} exported symbols")
    # A package of which pyright sees nothing has not been verified.
    return known == total > 0


if __name__ == "__main__":
    sys.exit(main())
