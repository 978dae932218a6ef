"""The operator's commands that work on a relay's files themselves: copy them, and put them back."""

import os

import click

from protocol.errors import RoamRelayError
from protocol.text import shown
from relay import config as configuration
from relay.backup import back_up
from relay.backup import restore as put_back
from relay.config import RelayConfig

__all__ = ["COMMANDS"]

_config = click.option("--config", "source", metavar="FILE", help="The relay's TOML file.")
_state = click.option("--state", metavar="FOLDER", help="Its state folder, if not in that file.")


@click.command()
@click.argument("file")
@_config
@_state
def backup(file: str, source: str | None, state: str | None) -> None:
    """Copy the state of a relay, which may run, into FILE: its bans, list and invitations, its
    zone, and its key. FILE is as secret as the key.

    Run it as the user who runs the relay. 'relay restore' puts it back.

    \b
    Example:
      relay backup --config relay.toml roam-relay-$(date +%F).backup
    """
    try:
        names = back_up(_load(source, state), file)
    except RoamRelayError as error:
        raise click.ClickException(shown(str(error))) from None
    click.echo(shown(f"{file}: {', '.join(names)}"))
    if "relay.key" in names:
        click.echo("It holds the relay's key: keep it as you keep that.", err=True)


@click.command()
@click.argument("file")
@_config
@_state
def restore(file: str, source: str | None, state: str | None) -> None:
    """Put a backup back where the configuration says, before the relay is started. What is there
    already is never replaced: then nothing is done.

    \b
    Example:
      relay restore --config relay.toml roam-relay-2026-11-27.backup
    """
    try:
        guid, names = put_back(file, _load(source, state))
    except RoamRelayError as error:
        raise click.ClickException(shown(str(error))) from None
    click.echo(shown(f"restored: {', '.join(names)}" + (f"; the relay {guid}" if guid else "")))


COMMANDS: tuple[click.Command, ...] = (backup, restore)


def _load(source: str | None, state: str | None) -> RelayConfig:
    return configuration.load(source, os.environ, {"state": state})
