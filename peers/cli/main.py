"""The `peer` command: options, exit codes, and what runs behind each subcommand.

What a subcommand does is in `peers.commands`; this file knows click and the process.
"""

import asyncio
import logging
import os
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import click
import msgspec

from peers.cli import locate as locate_commands
from peers.cli import talk as commands
from peers.config import (
    CarrierKind,
    ConfigError,
    DdnsConfig,
    DdnsConfigError,
    Identity,
    PeerConfig,
    PolicyError,
)
from protocol.errors import (
    IdentityError,
    LimitExceeded,
    NameServerUnavailable,
    PathFailed,
    PeerOffline,
    Refused,
    RelayUnavailable,
    RequestTimeout,
    RoamRelayError,
    SessionClosed,
    SessionLost,
    UnknownPeer,
    UnknownService,
    UpdateRefused,
    WrongIdentity,
)
from protocol.messages import Mode

__all__ = ["main"]

_EXIT_CODES: list[tuple[type[RoamRelayError], int]] = [
    (RelayUnavailable, 3),
    (NameServerUnavailable, 3),
    (UpdateRefused, 6),
    (DdnsConfigError, 2),
    (UnknownPeer, 4),
    (UnknownService, 4),
    (PeerOffline, 5),
    (Refused, 6),
    (LimitExceeded, 7),
    (RequestTimeout, 8),
    (PathFailed, 9),
    (WrongIdentity, 10),
    (SessionLost, 11),
    (SessionClosed, 11),
    (ConfigError, 2),
    (IdentityError, 2),
    (PolicyError, 2),
]

_EPILOG = """\b
Exit codes:
  0 done               1 failed                  2 wrong use, config or key
  3 no relay, no DNS   4 unknown peer, service   5 peer offline
  6 refused            7 limit reached           8 no answer in time
  9 no path           10 wrong identity         11 session ended early
  130 interrupted (Ctrl-C)
"""


class _Settings(msgspec.Struct, frozen=True):
    """What the options before the subcommand say."""

    config: PeerConfig
    key: str

    def identity(self) -> Identity:
        return Identity.load_or_create(self.key)


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=_EPILOG)
@click.version_option(package_name="roam-relay")
@click.option(
    "--relay",
    metavar="URL",
    envvar="PEER_RELAY",
    help="http(s)://HOST:PORT of the relay, or dns:DOMAIN.",
)
@click.option(
    "--key",
    metavar="FILE",
    envvar="PEER_KEY",
    help="The key file; made where there is none [~/.config/roam-relay/peer.key].",
)
@click.option("--config", "file", metavar="FILE", envvar="PEER_CONFIG", help="A TOML file.")
@click.option("--carrier", type=click.Choice([c.value for c in CarrierKind]), help="[raw]")
@click.option("--zone", envvar="PEER_ZONE", help="A DNS zone of peers, beside the relay or alone.")
@click.option("--name-server", metavar="HOST[:PORT]", help="The zone's primary server.")
@click.option("--dns-key", metavar="FILE", help="The key with which this peer registers there.")
@click.option("-v", "--verbose", is_flag=True, help="Log what happens to standard error.")
@click.pass_context
def main(
    context: click.Context,
    relay: str | None,
    key: str | None,
    file: str | None,
    carrier: str | None,
    zone: str | None,
    name_server: str | None,
    dns_key: str | None,
    verbose: bool,
) -> None:
    """Talk with mobile peers through a Roam Relay, or by dynamic DNS alone.

    \b
    A first conversation, in two terminals:
      peer --relay http://127.0.0.1:8440 --key alice.key listen chat
      peer --relay http://127.0.0.1:8440 --key bob.key connect $(peer --key alice.key id) chat
    """
    _configure_log(verbose)
    with _errors():
        config = PeerConfig.load(file) if file else PeerConfig()
        changes: dict[str, Any] = {}
        if relay:
            changes["relay"] = relay
        if carrier:
            changes["carrier"] = CarrierKind(carrier)
        names = {"zone": zone, "server": name_server, "key_file": dns_key}
        names = {name: value for name, value in names.items() if value}
        if names:
            known = msgspec.structs.asdict(config.ddns) if config.ddns is not None else {}
            if not zone and not known:
                raise ConfigError("--name-server and --dns-key are for a zone: give --zone too")
            changes["ddns"] = DdnsConfig(**(known | names))
        path = key or config.identity
        if path is None:
            default = Path.home() / ".config" / "roam-relay" / "peer.key"
            default.parent.mkdir(parents=True, exist_ok=True)
            path = str(default)
        context.obj = _Settings(msgspec.structs.replace(config, **changes), path)


_mode = click.option(
    "--mode", type=click.Choice([mode.value for mode in Mode]), help="Else as configured."
)
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")


@main.command("id")
@_json
@click.pass_obj
def show_id(settings: _Settings, as_json: bool) -> None:
    """Print this peer's GUID; make its key where there is none."""
    with _errors():
        guid = settings.identity().guid
    click.echo(msgspec.json.encode({"guid": guid}) if as_json else guid)


@main.command()
@click.argument("service")
@click.option("--allow", multiple=True, metavar="GUID", help="Only these may ask (repeatable).")
@click.option("--disclose", default="anyone", type=click.Choice(["anyone", "nobody"]))
@click.option("--echo", is_flag=True, help="Send every message back.")
@_json
@click.pass_obj
def listen(
    settings: _Settings,
    service: str,
    allow: tuple[str, ...],
    disclose: str,
    echo: bool,
    as_json: bool,
) -> None:
    """Offer SERVICE and print the messages that arrive; lines typed here go to the last caller."""
    _run(
        commands.listen(
            settings.config, settings.identity, service, allow or None, disclose, echo, as_json
        )
    )


@main.command()
@click.argument("guid")
@click.argument("service")
@_mode
@click.option("--policy", help="Which paths it may take: 'only direct, not metered'.")
@click.option("--wait", is_flag=True, help="Wait until the peer is there and offers SERVICE.")
@click.pass_obj
def connect(
    settings: _Settings, guid: str, service: str, mode: str | None, policy: str | None, wait: bool
) -> None:
    """Open a session with SERVICE of GUID: lines of standard input out, messages in."""
    _run(commands.connect(settings.config, settings.identity, guid, service, mode, policy, wait))


@main.command()
@click.argument("guid")
@_json
@click.pass_obj
def watch(settings: _Settings, guid: str, as_json: bool) -> None:
    """Show when GUID comes, moves and goes, until Ctrl-C."""
    _run(commands.watch(settings.config, settings.identity, guid, as_json))


@main.command()
@click.argument("guid")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@_mode
@_json
@click.pass_obj
def send(settings: _Settings, guid: str, file: Path, mode: str | None, as_json: bool) -> None:
    """Send FILE to GUID, which runs 'peer receive'; checksummed."""
    _run(commands.send(settings.config, settings.identity, guid, file, mode, as_json))


@main.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--allow", multiple=True, metavar="GUID", help="Only these may send (repeatable).")
@click.option("--once", is_flag=True, help="Exit after one file.")
@_json
@click.pass_obj
def receive(
    settings: _Settings, folder: Path, allow: tuple[str, ...], once: bool, as_json: bool
) -> None:
    """Receive files into FOLDER until Ctrl-C."""
    _run(commands.receive(settings.config, settings.identity, folder, allow or None, once, as_json))


@main.command()
@click.argument("guid", required=False)
@click.argument("service", required=False)
@click.option("--mine", is_flag=True, help="This host's own addresses, and which are proven.")
@_json
@click.pass_obj
def locate(
    settings: _Settings, guid: str | None, service: str | None, mine: bool, as_json: bool
) -> None:
    """Show where SERVICE of GUID is, the delay to each endpoint, and which would be chosen."""
    if mine:
        _run(locate_commands.locate_mine(settings.config, as_json))
    elif guid is None or service is None:
        raise click.UsageError("give GUID and SERVICE, or --mine")
    else:
        _run(locate_commands.locate(settings.config, settings.identity, guid, service, as_json))


@main.command()
@click.argument("service")
@click.option("--port", required=True, type=click.IntRange(1, 65535), help="Where it is served.")
@_json
@click.pass_obj
def expose(settings: _Settings, service: str, port: int, as_json: bool) -> None:
    """Register SERVICE of another program on this host, so that 'peer locate' finds it."""
    _run(locate_commands.expose(settings.config, settings.identity, service, port, as_json))


@main.command("ddns-key")
@click.option("--out", metavar="FILE", default="peer.tsig", show_default=True, help="Where to.")
@_json
@click.pass_obj
def ddns_key(settings: _Settings, out: str, as_json: bool) -> None:
    """Get the key with which this peer registers in its relay's DNS zone; write it to a file."""
    _run(locate_commands.ddns_key(settings.config, settings.identity, out, as_json))


@main.command()
@click.argument("guid")
@click.argument("service", default="ping")
@_mode
@click.option("--count", default=4, show_default=True, type=click.IntRange(1, 1_000_000))
@_json
@click.pass_obj
def ping(
    settings: _Settings, guid: str, service: str, mode: str | None, count: int, as_json: bool
) -> None:
    """Measure round trips to GUID, which runs 'peer listen ping --echo' (or another SERVICE)."""
    _run(commands.ping(settings.config, settings.identity, guid, service, mode, count, as_json))


class _errors:
    """Turns our exceptions into one line on standard error and the documented exit code."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        if isinstance(error, RoamRelayError):
            click.echo(f"peer: {error}", err=True)
            codes = (code for cls, code in _EXIT_CODES if isinstance(error, cls))
            sys.exit(next(codes, 1))
        if isinstance(error, ValueError):
            click.echo(f"peer: {error}", err=True)
            sys.exit(2)


def _run(work: Coroutine[Any, Any, None]) -> None:
    with _errors():
        try:
            if sys.platform == "win32":
                asyncio.run(work)
                return
            import uvloop

            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(work)
        except KeyboardInterrupt:
            sys.exit(130)
        except BrokenPipeError:
            os._exit(1)


def _configure_log(verbose: bool) -> None:
    if verbose:
        logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
        logging.getLogger("peers").setLevel(logging.DEBUG)
