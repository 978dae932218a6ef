"""`python -m tests.fuzz`: let a fuzzer look for inputs that lead further, and for findings.

It is guided by coverage (atheris, the extra `fuzz`). What leads further is kept in .fuzz/TARGET for
the next run; what is a finding is written to .fuzz/TARGET-…, and goes into the corpus with its
mending. Ends with 1 where there was one.
"""

import argparse
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOUND = ROOT / ".fuzz"
LONGEST = {"codec": 70_000, "dns-questions": 4096, "dns-updates": 4096, "dns-answers": 4096}
"""Bytes of an input; elsewhere 1,024."""


def main() -> int:
    """Run the targets one after the other, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", help="names of targets [all]")
    parser.add_argument("--seconds", type=int, default=60, help="for each [60]")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        _fuzz(arguments.one, arguments.seconds)
        return 0
    from tests.fuzz.targets import TARGETS

    names = arguments.targets or list(TARGETS)
    if unknown := set(names) - set(TARGETS):
        parser.error(f"no target {min(unknown)!r}; there are: {', '.join(TARGETS)}")
    if importlib.util.find_spec("atheris") is None:
        parser.error("atheris is not installed: 'make fuzz' does that")
    failed = []
    for name in names:
        # Here: one that does not begin makes none, and says why.
        (FOUND / name).mkdir(parents=True, exist_ok=True)
        process = subprocess.run(
            [
                sys.executable,
                "-m",
                "tests.fuzz",
                "--one",
                name,
                "--seconds",
                f"{arguments.seconds}",
            ],
            cwd=ROOT,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        executed = re.search(r"number_of_executed_units:\s*(\d+)", process.stdout)
        inputs = len(list((FOUND / name).iterdir()))
        count = executed[1] if executed else "?"
        verdict = "ok"
        if process.returncode:
            verdict = "finding" if "INFO: Seed:" in process.stdout else "did not begin"
        print(f"{name:20} {count:>10} executions {inputs:6} inputs  {verdict}", flush=True)
        if process.returncode:
            failed.append(name)
            print(process.stdout[-6000:], flush=True)
    return 1 if failed else 0


def _fuzz(name: str, seconds: int) -> None:
    import atheris

    with atheris.instrument_imports(include=["protocol", "relay", "peers", "h11"]):
        from tests.fuzz.targets import CORPUS, TARGETS
    found = FOUND / name
    (CORPUS / name).mkdir(parents=True, exist_ok=True)
    atheris.Setup(
        [
            sys.argv[0],
            f"-max_total_time={seconds}",
            f"-max_len={LONGEST.get(name, 1024)}",
            "-timeout=60",
            "-rss_limit_mb=4096",
            "-print_final_stats=1",
            f"-artifact_prefix={FOUND}/{name}-",
            str(found),
            str(CORPUS / name),
        ],
        TARGETS[name],
    )
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
