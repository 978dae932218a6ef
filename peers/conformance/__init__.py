"""The conformance kit: whether a peer or a relay of any origin keeps to docs/protocol.md."""

from peers.conformance.checks import Outcome, Result
from peers.conformance.own import serve as serve_adapter
from peers.conformance.report import Report, RuleReport
from peers.conformance.suite import (
    CannotStart,
    Wanted,
    check_peer,
    check_relay,
    every_rule,
    started_relay,
)

__all__ = [
    "CannotStart",
    "Outcome",
    "Report",
    "Result",
    "RuleReport",
    "Wanted",
    "check_peer",
    "check_relay",
    "every_rule",
    "serve_adapter",
    "started_relay",
]
