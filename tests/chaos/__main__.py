"""`python -m tests.chaos`: a longer chaos run, or the replay of one."""

import argparse
import asyncio
import random
import sys
import tempfile
from pathlib import Path

from tests.chaos import conversations
from tests.chaos.cluster import ClusterChaos
from tests.chaos.run import Chaos, Report


async def _run(seed: int, seconds: float, *, by_name: bool, cluster: bool) -> Report:
    with tempfile.TemporaryDirectory() as folder:
        if cluster:
            return await ClusterChaos(seed, Path(folder)).run(seconds)
        return await Chaos.one_relay(seed, Path(folder), by_name=by_name).run(seconds)


def main() -> int:
    """Run; the exit code is 1 when anything was lost, doubled or out of order."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="replay the run with this seed")
    parser.add_argument("--seconds", type=float, default=600.0, help="how long [600]")
    parser.add_argument("--by-name", action="store_true", help="by dynamic DNS alone, no relay")
    parser.add_argument("--conversations", action="store_true", help="programs that are killed")
    parser.add_argument(
        "--cluster", action="store_true", help="three nodes, or with --conversations two processes"
    )
    parser.add_argument(
        "--kills", type=int, default=200, help="how often, with --conversations [200]"
    )
    arguments = parser.parse_args()
    seed = random.SystemRandom().randrange(2**32) if arguments.seed is None else arguments.seed
    if arguments.conversations:
        more = " --cluster" * arguments.cluster
        print(f"seed {seed}: replay with --conversations --seed {seed}{more}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            kills = arguments.kills
            troubles = conversations.run(
                Path(folder),
                seed=seed,
                kills=kills,
                count=10 * kills,
                cluster=arguments.cluster,
            )
        print(", ".join(f"{count} × {what}" for what, count in sorted(troubles.items())))
        print(f"{10 * kills} messages each way: every one once, and in order")
        return 0
    print(
        f"seed {seed}: replay with --seed {seed} --seconds {arguments.seconds:g}"
        + " --by-name" * arguments.by_name
        + " --cluster" * arguments.cluster,
        flush=True,
    )
    running = _run(seed, arguments.seconds, by_name=arguments.by_name, cluster=arguments.cluster)
    report = asyncio.run(running, debug=False)
    print(report)
    return 1 if report.faults else 0


if __name__ == "__main__":
    sys.exit(main())
