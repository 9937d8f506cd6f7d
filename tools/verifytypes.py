"""Requires that pyright knows the type of everything the packages named on the command line export."""

import json
import subprocess
import sys

PYRIGHT = [
    sys.executable,
    "-m",
    "pyright",
    "--pythonpath",
    sys.executable,
    "--outputjson",
    "--ignoreexternal",
]


def main() -> int:
    return 1 if [package for package in sys.argv[1:] if not verify(package)] else 0


def verify(package: str) -> bool:
    ran = subprocess.run([*PYRIGHT, "--verifytypes", package], stdout=subprocess.PIPE, text=True, check=False)
    report = json.loads(ran.stdout)["typeCompleteness"]
    for symbol in report["symbols"]:
        if symbol["isExported"] and not symbol["isTypeKnown"]:
            for diagnostic in symbol["diagnostics"]:
                print(f"{symbol['name']}: {diagnostic['message']}")
    counts = report["exportedSymbolCounts"]
    known, total = counts["withKnownType"], sum(counts.values())
    print(f"{package}: pyright knows the types of {known} of {total} exported symbols")
    return known == total


if __name__ == "__main__":
    sys.exit(main())
