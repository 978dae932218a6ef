"""`python -m tests.cluster`: what each peer is without while something of a cluster fails, as a
table for docs/scaling.md; with words, of the faults whose names have them."""

import asyncio
import os
import sys
import tempfile
from pathlib import Path

from tests.cluster.outages import FAULTS, measure, table


def main() -> int:
    """Measure; the exit code is 1 when anything was lost, doubled or out of order."""
    wanted = [fault for fault in FAULTS if all(word in fault for word in sys.argv[1:])]
    rows = {}
    for fault in wanted:
        with tempfile.TemporaryDirectory() as folder:
            rows[fault] = asyncio.run(measure(Path(folder), fault))
        print(f"{fault}: load {os.getloadavg()[0]:.1f}", *rows[fault][2][:10], flush=True)
    print(table(rows))
    return 1 if any(wrong for _, _, wrong in rows.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
