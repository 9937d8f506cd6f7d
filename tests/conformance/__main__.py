"""Run test-suites on stock Trio, then on the ring, and say whether the ring conforms.

``--suite NAME`` chooses one; without it, all. ``--brief`` leaves out slow tests, static tools and all ways to
the ring but one. Other arguments are options for every pytest run, such as ``-k name`` and ``-x``. The
verdict is about a whole suite: given any, there is none.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from tests.conformance import verdict
from tests.conformance.suites import SUITES, Suite

HERE = Path(__file__).parent
# For one run, in seconds. The longest takes about a minute; a hang must not take the whole time that CI has.
LIMIT = 480.0
WAYS = {"stock": "on stock Trio", "installed": "on the ring", "backend": "on AnyIO's backend uring"}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.conformance", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("--suite", choices=list(SUITES), action="append")
    parser.add_argument("--brief", action="store_true")
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds for one run")
    options, more = parser.parse_known_args()
    failed = [
        name
        for name in options.suite or SUITES
        if not conforms(SUITES[name], more, brief=options.brief, limit=options.limit)
    ]
    for name in failed:
        print(f"conformance: {name}: FAILED")
    return 1 if failed else 0


def conforms(suite: Suite, more: list[str], *, brief: bool, limit: float) -> bool:
    expected = tomllib.loads((HERE / "expected.toml").read_text()).get(suite.name, [])
    sentences = []
    good = True
    with tempfile.TemporaryDirectory(prefix="conformance-") as directory:
        scratch = Path(directory)
        stock = run(suite, "stock", scratch, more, brief=brief, limit=limit)
        for way in suite.ways[-1:] if brief else suite.ways:
            ring = None if stock is None else run(suite, way, scratch, more, brief=brief, limit=limit)
            if stock is None or ring is None:
                return False
            if more:
                good = good and ring["exit"] == 0
                continue
            wrong = verdict.judge(suite, stock, ring, expected)
            good = good and not wrong
            sentences += wrong
            sentences.append(f"{suite.title} {WAYS[way]}: {verdict.summary(suite, stock, ring)}")
    sentences += [f"expected to fail: {entry['id']}: {entry['reason']}" for entry in expected]
    for sentence in [] if more else sentences:
        print("conformance:", sentence, flush=True)
    return good


def run(
    suite: Suite, way: str, scratch: Path, more: list[str], *, brief: bool, limit: float
) -> verdict.Record | None:
    """The record of one run; None, with the reason printed, when there is none."""
    print(f"--- {suite.title} {WAYS[way]}", flush=True)
    record = scratch / f"{way}.json"
    # Trio's tests start tools by name, and look at the directory they are in.
    tools = os.path.dirname(sys.executable)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    environment |= {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    if suite.plugins:
        environment["PYTEST_PLUGINS"] = ",".join(suite.plugins)
    command = [sys.executable, str(HERE / "suite.py"), "--suite", suite.name, "--way", way]
    command += ["--record", str(record), *["--brief"] * brief]
    if way != "stock":
        command += ["--stock", str(scratch / "stock.json")]
    empty = scratch / f"{way}-cwd"
    empty.mkdir()
    try:
        process = subprocess.run([*command, *more], cwd=empty, env=environment, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        print(f"conformance: the run was stopped after {limit:.0f} s")
        return None
    if not record.exists():
        print(f"conformance: the run ended with status {process.returncode} and no record")
        return None
    return json.loads(record.read_text())


if __name__ == "__main__":
    sys.exit(main())
