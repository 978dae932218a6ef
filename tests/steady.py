"""`python -m tests.steady`: the gate's tests again and again on a busy machine, and which of them
were not green.

Who judges by time is found out here: two loops that do nothing else take half of two processors.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parents[1]
# It ends by itself when its parent has gone, however that one ended.
BUSY = "import os\nparent = os.getppid()\nwhile os.getppid() == parent:\n    sum(range(10**6))\n"


@contextlib.contextmanager
def busy(loops: int) -> Iterator[None]:
    """Keep so many processors busy."""
    running = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(loops)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def run(folder: Path, arguments: Sequence[str]) -> tuple[int, list[str]]:
    """Run the tests as `make test` does; return how many there were, and which were not green."""
    report = folder / "report.xml"
    report.unlink(missing_ok=True)
    command = ["-m", "coverage", "run", "-m", "pytest", "-n", "4"]
    log = folder / "log"
    with log.open("w") as out:
        # No timeout: each test and each of its waits has one.
        done = subprocess.run(
            [sys.executable, *command, f"--junitxml={report}", *arguments],
            cwd=ROOT,
            env=os.environ | {"COVERAGE_FILE": str(folder / "coverage"), "LAB_REQUIRED": "1"},
            stdout=out,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if not report.exists():
        raise SystemExit(log.read_text())
    cases = list(ElementTree.parse(report).getroot().iter("testcase"))
    bad = [
        f"{case.get('classname')}::{case.get('name')}"
        for case in cases
        if case.find("failure") is not None or case.find("error") is not None
    ]
    if done.returncode:
        print(log.read_text(), flush=True)
    if done.returncode and not bad:
        bad.append(f"pytest itself: exit {done.returncode}")
    return len(cases), bad


def main() -> int:
    """Run; the exit code is 1 when any test was not green in any run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10, help="how often [10]")
    parser.add_argument("--busy", type=int, default=2, help="loops beside it [2]")
    parser.add_argument("arguments", nargs="*", help="for pytest: folders, -k …")
    options = parser.parse_args()
    bad: Counter[str] = Counter()
    lines = []
    with tempfile.TemporaryDirectory() as folder, busy(options.busy):
        for number in range(1, options.runs + 1):
            began = time.monotonic()
            count, failed = run(Path(folder), options.arguments)
            bad.update(failed)
            took = time.monotonic() - began
            lines.append(f"run {number}: {count} tests, {len(failed)} not green, {took:.0f} s")
            print(lines[-1], flush=True)
    print(*lines, sep="\n")
    for name, times in bad.most_common():
        print(f"{times} of {options.runs} times not green: {name}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
