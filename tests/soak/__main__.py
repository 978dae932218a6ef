"""`python -m tests.soak`: a longer soak, with a table of what was left after each lap."""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from tests.soak.run import Soak
from tests.support.scale import raise_descriptors


async def _run(arguments: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(Path(folder), arguments.peers, arguments.seed, arguments.deeds)
        report = await soak.run(arguments.seconds, laps=arguments.laps)
    print(report)
    most_failed = report.failures.total() > report.deeds.total() / 2
    if most_failed:
        print("most of it failed, so that little was shown")
    return 1 if report.faults or most_failed else 0


def main() -> int:
    """Run; the exit code is 1 where something was left, or went wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", type=int, default=5000, help="at once [5000]")
    parser.add_argument("--seconds", type=float, default=600.0, help="how long [600]")
    parser.add_argument("--laps", type=int, default=4, help="at least so many [4]")
    parser.add_argument("--deeds", type=float, default=0.3, help="of each peer in a lap [0.3]")
    parser.add_argument("--seed", type=int, default=1, help="of the choices [1]")
    arguments = parser.parse_args()
    raise_descriptors()
    return asyncio.run(_run(arguments))


if __name__ == "__main__":
    sys.exit(main())
