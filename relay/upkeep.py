"""The operator's commands for a relay's files: copy them, put them back, change the key."""

import json
import os
import time

import click

from protocol.errors import RoamRelayError
from protocol.text import shown
from relay.backup import back_up
from relay.backup import restore as put_back
from relay.config import ConfigError, RelayConfig
from relay.console import Duration
from relay.key_file import read_key
from relay.place import configured
from relay.rotation import end
from relay.rotation import rotate as change_key

__all__ = ["COMMANDS"]

_config = click.option("--config", "source", metavar="FILE", help="The relay's TOML file.")
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_state = click.option("--state", metavar="FOLDER", help="Its state folder, if not in that file.")


@click.command()
@click.argument("file")
@_config
@_state
@_json
def backup(file: str, source: str | None, state: str | None, as_json: bool) -> None:
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
    if as_json:
        click.echo(json.dumps({"file": file, "holds": names}))
        return
    click.echo(shown(f"{file}: {', '.join(names)}"))
    if "relay.key" in names:
        click.echo("It holds the relay's key: keep it as you keep that.", err=True)


@click.command()
@click.argument("file")
@_config
@_state
@_json
def restore(file: str, source: str | None, state: str | None, as_json: bool) -> None:
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
    if as_json:
        click.echo(json.dumps({"guid": guid or None, "restored": names}))
        return
    click.echo(shown(f"restored: {', '.join(names)}" + (f"; the relay {guid}" if guid else "")))


@click.command()
@_config
@_state
@click.option("--identity", metavar="FILE", help="The relay's key file, if not in the TOML file.")
@click.option(
    "--for",
    "seconds",
    type=Duration(),
    default="90d",
    help="How long the relay answers under the old key too [90d].",
)
@click.option(
    "--end", "ends", is_flag=True, help="Keep no former key any more, and make no new one."
)
@_json
def rotate(
    source: str | None,
    state: str | None,
    identity: str | None,
    seconds: int,
    ends: bool,
    as_json: bool,
) -> None:
    """Give the relay a new key, which the old one signs: peers that pin the old one learn the new
    one by that, and write it down. Restart the relay afterwards.

    Where the old key may be stolen, do not wait: --end, and tell the peers the new GUID.

    \b
    Examples:
      relay rotate --config relay.toml --for 90d
      relay rotate --config relay.toml --end
    """
    try:
        config = configured(source, os.environ, {"state": state, "identity": identity})
        if config.identity is None:
            raise ConfigError("which key? Name its file as 'identity', or with --identity")
        file = config.in_state(config.identity)
        if ends and as_json:
            end(file)
            click.echo(json.dumps({"guid": read_key(file).guid, "former": None, "until": None}))
            return
        if ends:
            said = "no former key is kept any more" if end(file) else "there is no former key"
            click.echo(f"{said}: the relay answers as {read_key(file).guid} alone", err=True)
            return
        old, new = change_key(file, seconds)
    except RoamRelayError as error:
        raise click.ClickException(shown(str(error))) from None
    if as_json:
        ends_at = round(time.time() + seconds)
        click.echo(json.dumps({"guid": new.guid, "former": old.guid, "until": ends_at}))
        return
    click.echo(new.guid)
    until = time.strftime("%Y-%m-%d", time.gmtime(time.time() + seconds))
    click.echo(
        f"Restart the relay: it answers under this key then, and until {until} as {old.guid} to "
        "who knows it by that. Copy its state anew ('relay backup').",
        err=True,
    )


COMMANDS: tuple[click.Command, ...] = (backup, restore, rotate)


def _load(source: str | None, state: str | None) -> RelayConfig:
    return configured(source, os.environ, {"state": state})
