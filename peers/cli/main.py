"""The `peer` command: options, exit codes, and which work stands behind each subcommand.

What a subcommand does is beside this file; this one knows click and the process.
"""

import contextlib
import errno
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from peers.cli import blocked, conformance, contacts, doctor, files, letters, locate, talk
from peers.cli.completion import completion
from peers.cli.exits import Exit, exit_of
from peers.cli.invocation import Invocation
from peers.cli.key import default_key
from peers.cli.log import logged
from peers.cli.process import INTERRUPTED, Ended, ended_by_signals, let_go_of_output, run
from peers.cli.settings import Settings
from peers.cli.status import status
from peers.cli.terminal import Terminal, standard_descriptors
from peers.config import CarrierKind, ConfigError, DdnsConfig, PeerConfig
from protocol.errors import RoamRelayError
from protocol.messages import Mode
from protocol.text import shown

__all__ = ["Invocation", "main", "parse", "perform"]

_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ENOSPC)
"""What a host says that has none left, wherever that is met: it is nobody's fault here."""
_EPILOG = """\b
Exit codes:
  0 done               1 failed                  2 wrong use, config or key
  3 no relay, no DNS   4 unknown peer, service   5 peer offline
  6 refused            7 limit reached           8 no answer in time
  9 no path           10 wrong identity         11 session ended early
  12 the other side cancelled a file
  129, 130, 143 ended by SIGHUP, SIGINT (Ctrl-C), SIGTERM
  141 nobody reads standard output any more (| head -1)
"""


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=_EPILOG)
@click.version_option(package_name="roam-relay")
@click.option(
    "--relay",
    metavar="URL",
    envvar="PEER_RELAY",
    help="http(s)://HOST:PORT of the relay, or several with commas; or dns:DOMAIN.",
)
@click.option(
    "--key",
    metavar="FILE",
    envvar="PEER_KEY",
    help="The key file; made where there is none [peer.key in the folder of --state].",
)
@click.option(
    "--state",
    metavar="FOLDER",
    envvar="PEER_STATE",
    help="The folder for this peer's key and what belongs to it, made for its owner alone "
    "[STATE_DIRECTORY, or a place of this user's].",
)
@click.option(
    "--invite",
    metavar="TOKEN",
    envvar="PEER_INVITE",
    help="What the relay's operator has made by 'relay invite'. As PEER_INVITE, or as "
    "'invitation' in the file, others on this host do not see it.",
)
@click.option("--config", "file", metavar="FILE", envvar="PEER_CONFIG", help="A TOML file.")
@click.option(
    "--carrier",
    type=click.Choice([c.value for c in CarrierKind]),
    help="This one and no other [raw, or websocket where a proxy passes nothing else].",
)
@click.option("--zone", envvar="PEER_ZONE", help="A DNS zone of peers, beside the relay or alone.")
@click.option("--name-server", metavar="HOST[:PORT]", help="The zone's primary server.")
@click.option("--dns-key", metavar="FILE", help="The key with which this peer registers there.")
@click.option(
    "--control",
    metavar="PATH",
    help="A UNIX socket, made for this user alone, at which 'peer --control PATH status' asks.",
)
@click.option("-v", "--verbose", is_flag=True, help="Log what happens to standard error.")
@click.pass_context
def command(
    context: click.Context,
    relay: str | None,
    key: str | None,
    state: str | None,
    invite: str | None,
    file: str | None,
    carrier: str | None,
    zone: str | None,
    name_server: str | None,
    dns_key: str | None,
    control: str | None,
    verbose: bool,
) -> None:
    """Talk with mobile peers through a Roam Relay, or by dynamic DNS alone.

    \b
    A first conversation, in two terminals:
      peer --relay http://127.0.0.1:8440 --key alice.key listen chat
      peer --relay http://127.0.0.1:8440 --key bob.key connect $(peer --key alice.key id) chat
    """
    config = PeerConfig.load(file) if file else PeerConfig()
    changes: dict[str, Any] = {}
    if relay:
        changes["relay"] = relay
    if invite:
        changes["invitation"] = invite
    if carrier:
        changes["carrier"] = CarrierKind(carrier)
    names = {"zone": zone, "server": name_server, "key_file": dns_key}
    names = {name: value for name, value in names.items() if value}
    if names:
        known = msgspec.structs.asdict(config.ddns) if config.ddns is not None else {}
        if not zone and not known:
            raise ConfigError("--name-server and --dns-key are for a zone: give --zone too")
        changes["ddns"] = DdnsConfig(**(known | names))
    path = key or config.identity or default_key(state, os.environ)
    if config.relay_guid is not None and config.relay_pin_file is None:
        changes["relay_pin_file"] = f"{path}.relay"
    if context.invoked_subcommand != "block":
        changes["blocked"] = tuple(dict.fromkeys((*config.blocked, *blocked.blocked_by(path))))
    context.obj = Settings(msgspec.structs.replace(config, **changes), path, verbose, control)


_mode = click.option(
    "--mode", type=click.Choice([mode.value for mode in Mode]), help="Else as configured."
)
_progress = click.option(
    "--progress",
    metavar="SECONDS",
    type=click.FloatRange(0.05, 3_600),
    help="With --json: an object this often that says how far it is.",
)
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")


@command.command("id")
@_json
@click.pass_obj
def show_id(settings: Settings, as_json: bool) -> Invocation:
    """Print this peer's GUID; make its key where there is none."""

    async def work(terminal: Terminal) -> None:
        guid = settings.identity().guid
        await terminal.answer(guid, guid=guid)

    return settings.invocation(work, as_json)


@command.command()
@click.argument("guids", metavar="[GUID]...", nargs=-1, type=contacts.WHOM)
@click.option("--remove", is_flag=True, help="Let them in again.")
@_json
@click.pass_obj
def block(settings: Settings, guids: tuple[str, ...], remove: bool, as_json: bool) -> Invocation:
    """Have nothing to do with each GUID; without one, list who is blocked.

    It holds for every command with this key from its next start on: whoever is blocked finds no
    service, and is called by nobody here. The list is the folder KEY.blocked beside the key file.
    What the relay discloses to anyone it discloses to them too ('listen --disclose nobody').

    \b
    Examples:
      peer block $GUID
      peer block --remove $GUID
    """
    if remove and not guids:
        raise click.UsageError("whom? give a GUID to --remove")

    async def work(terminal: Terminal) -> None:
        if remove:
            await blocked.unblock(terminal, settings.key, guids)
        elif guids:
            await blocked.block(terminal, settings.key, guids)
        else:
            await blocked.show(terminal, settings.key)

    return settings.invocation(work, as_json)


@command.command()
@click.argument("service")
@click.option("--allow", multiple=True, metavar="GUID", help="Only these may ask (repeatable).")
@click.option("--disclose", default="anyone", type=click.Choice(["anyone", "nobody"]))
@click.option("--echo", is_flag=True, help="Send every message back.")
@_json
@click.pass_obj
def listen(
    settings: Settings,
    service: str,
    allow: tuple[str, ...],
    disclose: str,
    echo: bool,
    as_json: bool,
) -> Invocation:
    """Offer SERVICE and print the messages that arrive, until Ctrl-C; waits for a relay.

    Lines of standard input go to the last caller. Without a caller those of a pipe or a file wait
    for one, what was typed is not sent. The service goes on when the input has ended.
    """
    return settings.invocation(
        lambda terminal: talk.listen(
            terminal,
            settings.waiting_peer,
            service,
            allow=allow or None,
            disclose=disclose,
            echo=echo,
        ),
        as_json,
    )


@command.command()
@click.argument("guid", type=contacts.WHOM)
@click.argument("service")
@_mode
@click.option("--policy", help="Which paths it may take: 'only direct, not metered'.")
@click.option("--wait", is_flag=True, help="Wait until the peer is there and offers SERVICE.")
@click.option("--metadata", default="", help="What SERVICE sees before it takes the session.")
@click.option(
    "--linger",
    metavar="SECONDS",
    default=None,
    type=click.FloatRange(0, 86_400),
    help="After the input's end, close when nothing came for so long, and not when the other side "
    "has answered and ended. An older version cannot be told to: then it is one second.",
)
@_json
@click.pass_obj
def connect(
    settings: Settings,
    guid: str,
    service: str,
    mode: str | None,
    policy: str | None,
    wait: bool,
    metadata: str,
    linger: float | None,
    as_json: bool,
) -> Invocation:
    """Open a session with SERVICE of GUID: lines of standard input out, messages in.

    When the input ends (a pipe, a file, Ctrl-D) the other side is told, and replies are printed
    until it ends too, or until none has come for so long (--linger). With no input at all
    (/dev/null, a closed one, nohup's) it only receives, until the other side closes.
    """
    return settings.invocation(
        lambda terminal: talk.connect(
            terminal,
            settings.peer,
            guid,
            service,
            mode=mode,
            policy=policy,
            wait=wait,
            metadata=metadata,
            linger=linger,
        ),
        as_json,
    )


@command.command()
@click.argument("guid", type=contacts.WHOM)
@_json
@click.pass_obj
def watch(settings: Settings, guid: str, as_json: bool) -> Invocation:
    """Show when GUID comes, moves and goes, until Ctrl-C."""
    return settings.invocation(lambda terminal: talk.watch(terminal, settings.peer, guid), as_json)


@command.command()
@click.argument("guid", type=contacts.WHOM)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@_mode
@_progress
@_json
@click.pass_obj
def send(
    settings: Settings,
    guid: str,
    file: Path,
    mode: str | None,
    progress: float | None,
    as_json: bool,
) -> Invocation:
    """Send FILE to GUID, which runs 'peer receive'; checksummed.

    A pipe, as of <(command), is read to its end first.
    """
    return settings.invocation(
        lambda terminal: files.send(terminal, settings.peer, guid, file, mode=mode, every=progress),
        as_json,
    )


@command.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--allow", multiple=True, metavar="GUID", help="Only these may send (repeatable).")
@click.option("--once", is_flag=True, help="Exit after one file.")
@_progress
@_json
@click.pass_obj
def receive(
    settings: Settings,
    folder: Path,
    allow: tuple[str, ...],
    once: bool,
    progress: float | None,
    as_json: bool,
) -> Invocation:
    """Receive files into FOLDER until Ctrl-C."""
    return settings.invocation(
        lambda terminal: files.receive(
            terminal,
            settings.waiting_peer,
            folder,
            allow=allow or None,
            once=once,
            every=progress,
        ),
        as_json,
    )


@command.command("locate")
@click.argument("guid", required=False, type=contacts.WHOM)
@click.argument("service", required=False)
@click.option("--mine", is_flag=True, help="This host's own addresses, and which are proven.")
@_json
@click.pass_obj
def locate_service(
    settings: Settings, guid: str | None, service: str | None, mine: bool, as_json: bool
) -> Invocation:
    """Show where SERVICE of GUID is, the delay to each endpoint, and which would be chosen."""
    if mine:
        return settings.invocation(
            lambda terminal: locate.locate_mine(terminal, settings.stranger), as_json
        )
    if guid is None or service is None:
        raise click.UsageError("give GUID and SERVICE, or --mine")
    return settings.invocation(
        lambda terminal: locate.locate(terminal, settings.peer, guid, service), as_json
    )


@command.command()
@click.argument("service")
@click.option("--port", required=True, type=click.IntRange(1, 65535), help="Where it is served.")
@_json
@click.pass_obj
def expose(settings: Settings, service: str, port: int, as_json: bool) -> Invocation:
    """Register SERVICE of another program on this host, so that 'peer locate' finds it."""
    return settings.invocation(
        lambda terminal: locate.expose(terminal, settings.waiting_peer, service, port), as_json
    )


@command.command("ddns-key")
@click.option("--out", metavar="FILE", default="peer.tsig", show_default=True, help="Where to.")
@_json
@click.pass_obj
def ddns_key(settings: Settings, out: str, as_json: bool) -> Invocation:
    """Get the key with which this peer registers in its relay's DNS zone; write it to a file."""
    return settings.invocation(
        lambda terminal: locate.ddns_key(terminal, settings.peer, out), as_json
    )


@command.command()
@click.argument("guid", type=contacts.WHOM)
@click.argument("service", default="ping")
@_mode
@click.option("--count", default=4, show_default=True, type=click.IntRange(1, 1_000_000))
@_json
@click.pass_obj
def ping(
    settings: Settings, guid: str, service: str, mode: str | None, count: int, as_json: bool
) -> Invocation:
    """Measure round trips to GUID, which runs 'peer listen ping --echo' (or another SERVICE)."""
    return settings.invocation(
        lambda terminal: talk.ping(terminal, settings.peer, guid, service, mode=mode, count=count),
        as_json,
    )


for _more in (conformance.group, contacts.link, doctor.doctor, letters.write, letters.mail, status):
    command.add_command(_more)
command.add_command(completion)


def parse(arguments: Sequence[str]) -> Invocation | int:
    """Return what a command line asks for; an exit code where that is done or refused already:
    `--help`, `--version`, wrong use and a wrong configuration are printed here."""
    try:
        asked = command.main(list(arguments), prog_name="peer", standalone_mode=False)
        return asked if isinstance(asked, Invocation) else int(asked or 0)
    except click.ClickException as error:
        with contextlib.suppress(OSError):
            error.show()
        return error.exit_code
    except click.Abort:
        return INTERRUPTED
    except Ended:
        raise
    except SystemExit as ended:  # Click's answer to a closed pipe; or a shell has its words.
        return Exit.DONE.value if ended.code == 0 else Exit.UNREAD.value
    except OSError as error:
        line, code = f"peer: cannot write: {error.strerror}", 1
    except Exception as error:
        line, code = _told(error)
    with contextlib.suppress(OSError):
        click.echo(shown(line), err=True)
    return code


async def perform(invocation: Invocation, terminal: Terminal) -> int:
    """Do what a command line asks for; return the exit code, when all is printed."""
    async with terminal:
        with logged(terminal, verbose=invocation.verbose):
            try:
                await terminal.run(invocation.work(terminal))
            except Exception as error:
                line, code = _told(error)
                if code != Exit.UNREAD:
                    terminal.notice(line)
                return code
            return 0


def _told(error: Exception) -> tuple[str, int]:
    """Return the line and the exit code for an error that users may see; others are raised."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if isinstance(error, RoamRelayError):
        return f"peer: {error}", exit_of(error)
    if isinstance(error, ValueError):
        return f"peer: {error}", 2
    if isinstance(error, OSError) and error.errno in _EXHAUSTED:
        return f"peer: the system has no more to give: {error.strerror}", 1
    raise error


def main() -> None:
    """Run the `peer` command, and exit."""
    with ended_by_signals():
        sys.exit(_main())


def _main() -> int:
    descriptors = standard_descriptors()
    invocation = parse(sys.argv[1:])
    if isinstance(invocation, int):
        let_go_of_output()
        return invocation
    asked = invocation

    async def work() -> int:
        return await perform(asked, Terminal(*descriptors, as_json=asked.as_json))

    try:
        return run(work())
    except OSError as error:
        line, code = _told(error)
        with contextlib.suppress(OSError):
            click.echo(shown(line), err=True)
        return code
