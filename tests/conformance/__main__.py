"""Run Trio's test-suite on stock Trio, then on the ring, and say whether the ring conforms.

Arguments are options for both pytest runs, such as ``-k name`` and ``-x``. The verdict is about the whole
suite: given any, there is none.
"""

import json
import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from tests.conformance import verdict

HERE = Path(__file__).parent
# For one run, in seconds. It takes about one minute; a hang must not take the whole time that CI has.
LIMIT = 480


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="conformance-") as directory:
        scratch = Path(directory)
        stock = run("stock", scratch)
        ring = run("ring", scratch)
    if stock is None or ring is None:
        return 1
    if sys.argv[1:]:
        return ring["exit"]
    expected = tomllib.loads((HERE / "expected.toml").read_text()).get("test", [])
    wrong = verdict.judge(stock, ring, expected)
    for sentence in wrong:
        print("conformance:", sentence)
    for entry in expected:
        print(f"conformance: expected to fail: {entry['id']}: {entry['reason']}")
    print("conformance:", verdict.summary(stock, ring))
    return 1 if wrong else 0


def run(backend: str, scratch: Path) -> verdict.Record | None:
    """The record of one run; None, with the reason printed, when there is none."""
    print(f"--- Trio's test-suite on {'stock Trio' if backend == 'stock' else 'the ring'}", flush=True)
    record = scratch / f"{backend}.json"
    # Trio's tests start tools by name, and look at the directory they are in.
    tools = os.path.dirname(sys.executable)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    environment |= {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, str(HERE / "suite.py"), "--backend", backend, "--record", str(record)]
    if backend == "ring":
        command += ["--stock", str(scratch / "stock.json")]
    command += sys.argv[1:]
    empty = scratch / f"{backend}-cwd"
    empty.mkdir()
    try:
        status = subprocess.run(command, cwd=empty, env=environment, timeout=LIMIT, check=False).returncode
    except subprocess.TimeoutExpired:
        print(f"conformance: the run was stopped after {LIMIT} s")
        return None
    if not record.exists():
        print(f"conformance: the run ended with status {status} and no record")
        return None
    return json.loads(record.read_text())


if __name__ == "__main__":
    sys.exit(main())
