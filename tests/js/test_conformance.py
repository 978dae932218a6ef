"""The package through the conformance kit: as in a page, a peer that takes no direct paths and no
lock but Noise; and as in Node, one that takes TLS and every mode.
"""

import shlex
from pathlib import Path

from peers.conformance import Outcome, Report, Wanted, check_peer
from tests.support import scale
from tests.support.named import need

ROOT = Path(__file__).parents[2]
ADAPTER = ROOT / "js" / "test" / "conformance.mjs"
BY_DAY = (
    *(
        "R2.6",
        "R6",
        "R7.15",
        "R7.18",
        "R7.20",
        "R8",
        "R9",
        "R10.10",
        "R10.12",
        "R10.15",
        "R10.19",
        "R10.20",
        "R10.26",
    ),
    *(
        "R10.28",
        "R10.34",
        "R10.35",
        "R10.36",
        "R10.40",
        "R11.3",
        "R11.17",
        "R11.24",
        "R11.53",
        "R11.57",
        "R18.4",
    ),
    *("R18.8", "R18.9", "R18.14", "R18.17", "R18.19", "R18.25", "R18.27"),
)
"""Some of each kind: the rest takes half a minute."""
IN_NODE_BY_DAY = (
    *("R8", "R10.2", "R10.3", "R10.4", "R10.7", "R10.20", "R10.21", "R10.22", "R10.23", "R10.28"),
    *("R10.32", "R11.3", "R11.8", "R11.53", "R18.2", "R18.3", "R18.4"),
)
FAULT = f"""
import {{ Route }} from "{ROOT.as_uri()}/js/dist/route.js";
Route.prototype.judge = () => null;
"""
"""Takes every path, also one that is older than that of now."""


def lines_of(report: Report) -> str:
    return "\n".join(line for rule in report.rules for line in rule.lines)


async def test_the_package_keeps_the_rules() -> None:
    node = need("node", "nodejs")
    report = await check_peer(f"{node} {ADAPTER}", Wanted(() if scale.NIGHTLY else BY_DAY))
    assert not report.failed, lines_of(report)
    rules = {rule.rule: rule.outcome for rule in report.rules}
    assert {"R9.14", "R10.28", "R11.3", "R11.17", "R18.8", "R18.19", "R18.27"} <= {
        rule for rule, outcome in rules.items() if outcome is Outcome.PASSED
    }
    # What it has no part in is said, and why.
    assert rules["R8.10"] is Outcome.NOT_APPLICABLE
    reasons = {one.detail for one in report.results if one.outcome is Outcome.NOT_APPLICABLE}
    assert "the peer takes no direct paths" in reasons


async def test_the_package_in_node_keeps_the_rules() -> None:
    node = need("node", "nodejs")
    wanted = Wanted(() if scale.NIGHTLY else IN_NODE_BY_DAY)
    report = await check_peer(f"{node} {ADAPTER} node", wanted)
    assert not report.failed, lines_of(report)
    rules = {rule.rule: rule.outcome for rule in report.rules}
    assert {"R8.5", "R8.10", "R8.14", "R8.16", "R8.20", "R8.21", "R10.22", "R10.23", "R18.2"} <= {
        rule for rule, outcome in rules.items() if outcome is Outcome.PASSED
    }


async def test_a_fault_in_it_is_found_over_the_lock() -> None:
    node = need("node", "nodejs")
    fault = shlex.quote(f"data:text/javascript,{FAULT}".replace("\n", " "))
    report = await check_peer(f"{node} --import {fault} {ADAPTER}", Wanted(("R10.26",)))
    assert report.failed == ["R10.26"], lines_of(report)
    assert "`path_reject` should have come" in lines_of(report)
