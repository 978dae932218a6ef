"""`peer conformance`: which rules of docs/protocol.md a peer or a relay keeps, of whatever origin.

The checks are the kit's (`peers.conformance`), which is imported only where it is used; here is how
they are asked for and shown.
"""

import sys
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

import click

from peers.cli.invocation import Invocation
from peers.cli.terminal import Terminal
from protocol.errors import RoamRelayError

if TYPE_CHECKING:
    from peers.conformance import Report, Result, Wanted

__all__ = ["group"]

OWN_PEER = f"{sys.executable} -m peers conformance adapter"
"""This library's own peer."""
OWN_RELAY = "relay serve --host 127.0.0.1 --port {port}"

_EVERY = 50
"""Checks between two words of how far it is."""


class NotConforming(RoamRelayError):
    """Rules are broken. Says which."""


_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")
_rules = click.option(
    "--rule",
    "rules",
    multiple=True,
    metavar="RULE",
    help="Only this one, as R11.17, or a section, as R11 (repeatable).",
)
_slow = click.option("--slow", is_flag=True, help="Also checks that wait for seconds.")


@click.group("conformance")
def group() -> None:
    """Hold a peer or a relay, of whatever origin, to docs/protocol.md.

    The kit plays the other parties: to a peer a relay and peers, to a relay peers. It tries the
    test vectors, then whole conversations, then what nobody should do: floods, cuts, violations.
    Each line of the report is a rule by its number on the page; the exit code is 1 where one is
    broken.

    \b
    A peer needs an adapter: a program that reads commands as lines of JSON (open, connect, send,
    receive, close, ...) and answers each. docs/conformance.md has all of it, and an example:
      peer conformance peer --command "node examples/foreign_peer.mjs"
    A relay needs nothing but its URL, on this host or where it is:
      peer conformance relay http://127.0.0.1:8440
    While one rule is mended:
      peer conformance peer --command ./adapter --rule R11.17
    """


@group.command("peer")
@click.option(
    "--command",
    metavar="COMMAND",
    default=OWN_PEER,
    show_default="this library's own peer",
    help="Starts the adapter of the peer.",
)
@_rules
@_slow
@_json
def of_peer(command: str, rules: tuple[str, ...], slow: bool, as_json: bool) -> Invocation:
    """Hold a peer to the rules, through its adapter."""

    async def work(terminal: Terminal) -> None:
        from peers.conformance import check_peer

        await _show(terminal, check_peer(command, _wanted(terminal, rules, slow)))

    return Invocation(work, as_json, verbose=False)


@group.command("relay")
@click.argument("url", required=False)
@click.option(
    "--start",
    metavar="COMMAND",
    default=OWN_RELAY,
    show_default=True,
    help="Without a URL: starts one at 127.0.0.1, {port} is its port.",
)
@_rules
@_slow
@_json
def of_relay(
    url: str | None, start: str, rules: tuple[str, ...], slow: bool, as_json: bool
) -> Invocation:
    """Hold the relay at URL to the rules, or one that is started for it.

    It must take every peer, and some hundred connections of one address in a minute.
    """

    async def work(terminal: Terminal) -> None:
        from peers.conformance import check_relay, started_relay

        wanted = _wanted(terminal, rules, slow)
        if url is not None:
            await _show(terminal, check_relay(url, wanted))
            return
        async with started_relay(start) as started:
            await _show(terminal, check_relay(started, wanted))

    return Invocation(work, as_json, verbose=False)


@group.command("rules")
@_json
def list_rules(as_json: bool) -> Invocation:
    """List what is checked, by rule."""

    async def work(terminal: Terminal) -> None:
        from peers.conformance import every_rule

        for rule, checks in every_rule().items():
            for check in checks:
                facts = {"rule": rule, "section": check.section, "what": check.what}
                line = f"{rule:<7} {check.section:<4} {check.of}: {check.what}"
                await terminal.answer(line, of=check.of, slow=check.slow, **facts)

    return Invocation(work, as_json, verbose=False)


@group.command("adapter")
def adapter() -> Invocation:
    """Be the adapter of this library's own peer, on standard input and output."""

    async def work(terminal: Terminal) -> None:
        from peers.conformance import serve_adapter

        await serve_adapter()

    return Invocation(work, as_json=False, verbose=False)


def _wanted(terminal: Terminal, rules: tuple[str, ...], slow: bool) -> "Wanted":
    from peers.conformance import Wanted

    return Wanted(rules, slow, _progress(terminal))


def _progress(terminal: Terminal) -> Callable[["Result"], None]:
    """Return what says how far it is, to people who wait for it."""
    made = 0

    def tell(result: "Result") -> None:
        nonlocal made
        made += 1
        if not terminal.as_json and made % _EVERY == 0:
            terminal.notice(f"{made} checks made, at {result.rule}")

    return tell


async def _show(terminal: Terminal, checking: Coroutine[Any, Any, "Report"]) -> None:
    report = await checking
    for rule in report.rules:
        await terminal.answer("\n".join(rule.lines), **rule.fields)
    counts = report.counts
    await terminal.answer(
        f"{len(report.rules)} rules, {counts['checks']} checks: {counts['passed']} passed, "
        f"{counts['failed']} failed, {counts['not_tried']} not tried, "
        f"{counts['not_applicable']} not applicable",
        **counts,
    )
    if report.failed:
        raise NotConforming(f"broken: {', '.join(report.failed)}")
