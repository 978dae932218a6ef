"""What the operator's commands print of what a relay has answered, for a person to read."""

import datetime
import time
from collections.abc import Sequence
from typing import assert_never

import click

from protocol.text import shown
from relay.operator import (
    Answer,
    BansShown,
    Done,
    Failed,
    InvitationsShown,
    OperatorError,
    PeersShown,
    StatusShown,
    TopShown,
)

__all__ = ["missing", "print_answer", "table", "when"]


def print_answer(answer: Answer) -> None:
    """Print an answer for a person.

    Raises:
        OperatorError: nothing was done.
    """
    match answer:
        case Done():
            ended = f", {answer.ended} connections ended" if answer.ended else ""
            click.echo(shown(f"{answer.subject}: {answer.said}{ended}"))
        case Failed():
            raise OperatorError(answer.reason)
        case PeersShown():
            table(
                ("guid", "since", "from", "services", "bytes", "planes", "requests", "refusals")
                + ("invitation",),
                [
                    (
                        peer.guid,
                        when(peer.since),
                        " ".join(peer.sources),
                        " ".join(peer.services) or "-",
                        str(peer.sent + peer.received),
                        str(peer.planes),
                        str(peer.requests),
                        str(peer.refusals),
                        peer.invitation or "-",
                    )
                    for peer in answer.peers
                ],
                answer.total,
            )
            if answer.silent:
                click.echo(f"{missing(answer.silent)}: who is there is not shown", err=True)
        case StatusShown():
            _print_status(answer)
        case TopShown():
            raise AssertionError("relay top prints this")
        case BansShown():
            table(
                ("banned", "since", "until", "reason"),
                [
                    (ban.subject, when(ban.since), when(ban.expires), ban.reason or "-")
                    for ban in answer.bans
                ],
                answer.total,
            )
        case InvitationsShown():
            table(
                ("invitation", "used", "until", "state", "note"),
                [
                    (
                        one.id,
                        f"{one.used}/{one.uses or '?'}",
                        when(one.expires or None),
                        _state_of(one.revoked, one.expires, one.used >= one.uses),
                        one.note or "-",
                    )
                    for one in answer.invitations
                ],
                answer.total,
            )
        case _:
            assert_never(answer)


def _print_status(answer: StatusShown) -> None:
    lines = [
        ("relay", answer.guid),
        *(("formerly", guid) for guid in answer.former),
        *(("at", url) for url in answer.urls),
        *(("operators at", url) for url in answer.admin_urls),
        ("state", answer.state or "none"),
        ("admits", answer.admission),
        ("version", f"{answer.build.get('version', '?')}, since {when(answer.started)}"),
        ("here", f"{answer.registered} peers, {answer.planes} planes"),
        ("is", "draining" if answer.draining else "serving"),
        *(
            (node.node, f"{node.registered} peers" if node.is_here else "does not answer")
            for node in answer.nodes
        ),
    ]
    for name, said in lines:
        click.echo(shown(f"{name:12}  {said}"))


def _state_of(revoked: float | None, expires: float, is_used_up: bool) -> str:
    if revoked is not None:
        return "revoked"
    if expires <= time.time():
        return "expired"
    return "used up" if is_used_up else "good"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], total: int = 0) -> None:
    """Print rows under a head; `total` is how many there are."""
    lines = [tuple(head), *(tuple(shown(cell) for cell in row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(cells).rstrip())
    if total > len(rows):
        click.echo(f"… and {total - len(rows)} more: --limit shows up to 10000")


def when(seconds: float | None) -> str:
    """Return a time as it is shown."""
    if seconds is None:
        return "-"
    try:
        then = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    except (OverflowError, OSError, ValueError):
        return "for good"
    return then.strftime("%Y-%m-%d %H:%M:%SZ")


def missing(silent: Sequence[str]) -> str:
    """Return which processes of a relay have not answered, in words."""
    return shown(f"{' and '.join(silent)} {'does' if len(silent) == 1 else 'do'} not answer")
