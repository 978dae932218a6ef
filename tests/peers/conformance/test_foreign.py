"""The example of a peer in another language, through the kit."""

from pathlib import Path

from peers.conformance import Outcome, Wanted, check_peer
from tests.support import scale
from tests.support.named import need

EXAMPLE = Path(__file__).parents[3] / "examples" / "foreign_peer.mjs"
BY_DAY = ("R2", "R5.3", "R5.4", "R6", "R8", "R9", "R10", "R11.1", "R11.3", "R11.17", "R11.53")
"""What it would take longest to get right, and some of each kind."""


async def test_a_peer_in_another_language_keeps_the_rules() -> None:
    node = need("node", "nodejs")
    wanted = Wanted(() if scale.NIGHTLY else BY_DAY)
    report = await check_peer(f"{node} {EXAMPLE}", wanted)
    assert not report.failed, "\n".join(line for rule in report.rules for line in rule.lines)
    passed = {rule.rule for rule in report.rules if rule.outcome is Outcome.PASSED}
    assert {"R2.6", "R8.5", "R8.7", "R8.16", "R9.14", "R10.28", "R11.3", "R11.17"} <= passed
