"""`peer doctor`: what kind of network this host is in, and what to do about it."""

from collections import Counter

import click

from peers.cli.examination import Examination
from peers.cli.invocation import Invocation
from peers.cli.settings import Settings
from peers.cli.terminal import Terminal
from peers.config import Identity
from peers.reach import Finding, diagnose
from protocol.errors import RelayUnavailable, RoamRelayError
from protocol.text import shown

__all__ = ["doctor"]


@click.command()
@click.option(
    "--own-key",
    is_flag=True,
    help="Ask with this peer's own key, where the relay admits no stranger; a program that runs "
    "with it is superseded.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")
@click.pass_obj
def doctor(settings: Settings, own_key: bool, as_json: bool) -> Invocation:
    """Say what kind of network this is: from which addresses and by which carrier the relay is
    reached, how it sees this host, whether others can dial it, clock, DNS, certificate; and what to
    do about each.

    It ends with 0 where others can find a peer here, if only over the relay, and else with the code
    that other commands would end with. With a key of the moment nothing that runs is disturbed.

    \b
    Examples:
      peer --relay https://relay.example doctor
      peer --relay https://relay.example doctor --json | jq 'select(.level != "good")'
    """
    config = settings.config
    if config.relay is None and config.ddns is None:
        raise RelayUnavailable("which relay? give --relay URL, or --zone")

    async def work(terminal: Terminal) -> None:
        identity = settings.identity() if own_key else Identity.generate()

        def tell(doing: str) -> None:
            if not terminal.as_json:
                terminal.notice(f"peer: {doing}")

        seen = await Examination(config, identity, tell).run()
        levels: Counter[str] = Counter()
        cause: RoamRelayError | None = None
        for one in diagnose(seen):
            levels[one.level] += 1
            if one.level == "error":
                cause = cause or one.cause
            await _print(terminal, one)
        if not terminal.as_json:
            await terminal.answer(f"{levels['error']} errors, {levels['warning']} warnings")
        if cause is not None:
            raise cause

    return settings.invocation(work, as_json)


async def _print(terminal: Terminal, one: Finding) -> None:
    # What others have said in it makes no line of its own.
    step = f"\n{'':7}  → {shown(one.next_step)}" if one.next_step else ""
    await terminal.answer(
        f"{one.level:7}  {one.about}: {shown(one.said)}{step}",
        level=one.level,
        about=one.about,
        said=one.said,
        next_step=one.next_step,
        **one.facts,
    )
