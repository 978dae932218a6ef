"""The `relay` command."""

import asyncio
import base64
import contextlib
import dataclasses
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from enum import IntEnum
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

from protocol.dns_records import key_file_text, parse_zone, peer_name
from protocol.errors import IdentityError, MissingExtra, RoamRelayError
from protocol.extras import needed
from protocol.identity import Identity
from protocol.text import shown
from relay.check import Finding, advice, look
from relay.config import ConfigError, RelayConfig
from relay.console import COMMANDS, Commands
from relay.http import Descriptors, raise_limit
from relay.key_file import read_key
from relay.keys import Former
from relay.log import configure, log
from relay.nodes import Program, Supervisor, count_of, serve_node
from relay.place import configured, make_key, may_keep_nothing, own_key
from relay.process import cores, open_standard_descriptors, run, spare_the_collector
from relay.rotation import read_former
from relay.server import RelayServer
from relay.store import FolderTaken
from relay.systemd import Systemd
from relay.top import COMMANDS as TOP
from relay.upkeep import COMMANDS as UPKEEP

__all__ = ["Exit", "main"]

_Command = TypeVar("_Command", bound=Callable[..., Any])


class Exit(IntEnum):
    """How `relay` ends."""

    DONE = 0
    """Done; of `serve`: told to end by SIGTERM or SIGINT, and drained, also while it begins."""
    FAILED = 1
    """Failed: one line on standard error says what, and the next step."""
    WRONG_USE = 2
    """The command line is not understood."""
    INTERRUPTED = 130
    """Ended by SIGINT; `serve` in its first moments, or by a second one, without draining."""
    TERMINATED = 143
    """Ended by SIGTERM; `serve` in its first moments, or by a second one, without draining."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Who:
    """Under which keys a relay serves."""

    identity: Identity
    former: tuple[Former, ...]


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="roam-relay")
def main() -> None:
    """Run a Roam Relay: it tells peers where other peers are, and joins those that cannot reach
    one another. Start with 'relay serve'. Exit codes: 0 done, 1 failed, 2 wrong use."""


for _command in (*COMMANDS, *TOP, *UPKEEP):
    main.add_command(_command)


_SETTINGS = (
    click.option("--config", "file", metavar="FILE", help="A TOML file with any of the settings."),
    click.option(
        "--host",
        "hosts",
        multiple=True,
        help="Address to listen on [127.0.0.1]; may be repeated. '::' is every address of both "
        "families, 0.0.0.0 those of IPv4: both serve everybody.",
    ),
    click.option("--port", type=int, help="Port to listen on [8440]; 0 takes any free one."),
    click.option(
        "--state",
        metavar="FOLDER",
        help="The folder for what outlives the relay, made for its owner alone [STATE_DIRECTORY, "
        "or a place of this user's, which the log names]; '' keeps nothing.",
    ),
    click.option(
        "--identity",
        metavar="FILE",
        help="The relay's key file [relay.key in the state folder, made where there is none].",
    ),
    click.option("--tls-certificate", metavar="FILE", help="PEM chain, to serve https://."),
    click.option("--tls-key", metavar="FILE", help="PEM key of the certificate."),
    click.option(
        "--trusted-proxy",
        "trusted_proxies",
        metavar="NETWORK",
        multiple=True,
        help="A reverse proxy that says where peers come from (docs/deploy.md); may be repeated.",
    ),
    click.option("--drain-timeout", type=float, help="Seconds planes may go on at the end [5]."),
    click.option("--log-format", type=click.Choice(["auto", "console", "json"]), help="[auto]"),
    click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"])),
)
"""The flags that are settings; each goes before the environment and the file."""


def _settings(command: _Command) -> _Command:
    """Give a command the flags that are settings."""
    for option in reversed(_SETTINGS):
        command = option(command)
    return command


def _configured(
    file: str | None,
    hosts: tuple[str, ...],
    trusted_proxies: tuple[str, ...],
    flags: dict[str, Any],
) -> RelayConfig:
    lists = {"host": hosts or None, "trusted_proxies": trusted_proxies or None}
    return configured(file, os.environ, flags | lists)


def _nodes(context: click.Context, param: click.Parameter, value: str) -> int:
    try:
        return count_of(value, cores())
    except ValueError as error:
        raise click.BadParameter(str(error), context, param) from None


@main.command()
@_settings
@click.option("--ready-file", metavar="FILE", help="Write the relay's URLs here once it serves.")
@click.option(
    "--nodes",
    default="1",
    callback=_nodes,
    metavar="N",
    help="Processes that are one relay, to use several cores; 'auto': one a core [1].",
)
def serve(
    file: str | None,
    ready_file: str | None,
    nodes: int,
    hosts: tuple[str, ...],
    trusted_proxies: tuple[str, ...],
    **flags: Any,
) -> None:
    """Serve until SIGTERM or SIGINT, then drain and exit with 0; a second one ends at once.

    SIGHUP reads the configuration and the certificate's files again; what needs a restart is
    logged. It never ends the relay.

    Every setting can be a key in the TOML file or a variable ROAM_RELAY_KEY; flags go first, then
    the environment, then the file.

    \b
    Examples:
      relay serve
      relay serve --host :: --port 8440 --identity relay.key
      relay serve --nodes auto
      relay serve --config relay.toml --log-format json
    """
    try:

        def anew() -> RelayConfig:
            return _configured(file, hosts, trusted_proxies, flags)

        config = anew()
        if nodes > 1:
            _supervise(config, anew, nodes, ready_file)
            return
        identity = own_key(config)
        configure(config.log_format, config.log_level)
        # Behind it, as this may have something to say.
        former = () if config.identity is None else read_former(_key_file(config), identity)
        if config.dns is not None and config.identity is None:
            log.warning("the zone's keys change with each start: name a key file as 'identity'")
        open_standard_descriptors()
        if hasattr(signal, "SIGHUP"):
            signal.signal(signal.SIGHUP, signal.SIG_IGN)  # Until there is something to reload.
        systemd = Systemd(os.environ)
        try:
            run(_serve(config, anew, ready_file, systemd, _Who(identity, former)))
        except FolderTaken:
            if not may_keep_nothing(file, os.environ, flags):
                raise
            said = "another relay of this user has the place for its files: this one has a key of "
            said += "its own, no bans, and forgets all at its end: name a folder with --state"
            log.warning(said, taken=config.state)
            flags["state"] = ""
            config = anew()
            run(_serve(config, anew, ready_file, systemd, _Who(own_key(config), ())))
    except (ConfigError, IdentityError, MissingExtra) as error:
        raise click.ClickException(shown(str(error))) from None


def _supervise(
    config: RelayConfig, anew: Callable[[], RelayConfig], nodes: int, ready_file: str | None
) -> None:
    """Serve with several processes."""
    identity = own_key(config)
    configure(config.log_format, config.log_level, "supervisor")
    open_standard_descriptors()
    raise_limit()
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # Until there is something to reload.

    def ready(urls: Sequence[str]) -> None:
        if ready_file is not None:
            _write_ready(ready_file, urls)

    command = (sys.executable, "-m", "relay", "node")
    program = Program(command, anew, ready, Systemd(os.environ))
    asyncio.run(Supervisor(config, identity, nodes, program).serve())


@main.command(hidden=True)
def node() -> None:
    """Be one process of 'relay serve --nodes': standard input says which."""
    run(serve_node(_set_up))


def _set_up(config: RelayConfig) -> None:
    _raise_limit(config)
    spare_the_collector()


@main.command()
@_settings
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")
def check(
    file: str | None,
    as_json: bool,
    hosts: tuple[str, ...],
    trusted_proxies: tuple[str, ...],
    **flags: Any,
) -> None:
    """Say whether 'relay serve' with the same words will serve: what is wrong, what is insecure,
    and the next step. Nothing is made or changed, and no other host is asked.

    It ends with 1 where something is wrong; warnings alone end with 0. Run it as the user who runs
    the relay; it may run meanwhile.

    \b
    Examples:
      relay check --config relay.toml
      relay check --config relay.toml --json | jq 'select(.level != "good")'
    """
    levels: Counter[str] = Counter()

    async def print_each() -> None:
        async for one in look(_configured(file, hosts, trusted_proxies, flags)):
            levels[one.level] += 1
            if as_json:
                click.echo(json.dumps(dataclasses.asdict(one)))
            else:
                _print_finding(one)

    try:
        asyncio.run(print_each())
    except (ConfigError, IdentityError) as error:
        raise click.ClickException(shown(str(error))) from None
    if not as_json:
        click.echo(f"{levels['error']} errors, {levels['warning']} warnings")
    if levels["error"]:
        sys.exit(Exit.FAILED.value)


def _print_finding(one: Finding) -> None:
    click.echo(shown(f"{one.level:7}  {one.about}: {one.said}"))
    if one.next_step:
        click.echo(shown(f"{'':7}  → {one.next_step}"))


@main.command()
@click.argument("file", required=False)
@click.option("--config", "source", metavar="FILE", help="The relay's TOML file.")
@click.option("--state", metavar="FOLDER", help="Its state folder, if not in that file.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def key(file: str | None, source: str | None, state: str | None, as_json: bool) -> None:
    """Show the GUID of the relay's key, or of that in FILE; make a new key where there is none."""
    try:
        if file is None:
            config = configured(source, os.environ, {"state": state})
            if config.identity is None:
                raise ConfigError("which key? Name its FILE: nothing is kept in a state folder")
            guid, file = own_key(config).guid, config.in_state(config.identity)
        else:
            if not Path(file).exists():
                make_key(file)
            guid = read_key(file).guid
        click.echo(json.dumps({"guid": guid, "file": file}) if as_json else guid)
    except (ConfigError, IdentityError) as error:
        raise click.ClickException(shown(str(error))) from None


_SHELLS: dict[str, type[ShellComplete]] = {
    "bash": BashComplete,
    "zsh": ZshComplete,
    "fish": FishComplete,
}


@main.command()
@click.argument("shell", type=click.Choice(list(_SHELLS)))
def completion(shell: str) -> None:
    """Print what SHELL reads to complete this command's words.

    
    Examples:
      eval "$(relay completion bash)"          # in ~/.bashrc
      eval "$(relay completion zsh)"           # in ~/.zshrc
      relay completion fish > ~/.config/fish/completions/relay.fish
    """
    click.echo(_SHELLS[shell](main, {}, "relay", "_RELAY_COMPLETE").source())


@main.command("dns-key")
@click.argument("guid")
@click.option("--config", "file", metavar="FILE", help="The relay's TOML file.")
@click.option("--identity", metavar="FILE", help="The relay's key file, if not in the TOML file.")
@click.option("--zone", help="The zone, if not in the TOML file.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def dns_key(
    guid: str, file: str | None, identity: str | None, zone: str | None, as_json: bool
) -> None:
    """Print the TSIG key with which the peer GUID registers in this relay's DNS zone.

    It is what nsupdate -k and a peer's 'key_file' read; whoever has it can say where GUID is, so
    hand it over in secret. A peer can also fetch it itself: 'peer ddns-key'.

    \b
    Example:
      relay dns-key --config relay.toml $GUID > alice.tsig
    """
    try:
        config = configured(file, os.environ, {"identity": identity})
        if config.identity is None:
            raise ConfigError(
                "the keys of the zone come from the relay's key: name its file with --identity, "
                "or as 'identity' in the configuration"
            )
        name = zone or (config.dns.zone if config.dns is not None else None)
        if name is None:
            raise ConfigError("no zone: give --zone, or [dns] in the configuration")
        name = parse_zone(name)
        with needed("dns", "the relay's own zone"):
            from relay.dns import DnsKeys

        secret = DnsKeys(read_key(config.in_state(config.identity)), name).secret(guid)
        if as_json:
            encoded = base64.b64encode(secret).decode()
            facts = {"name": peer_name(guid, name), "algorithm": "hmac-sha256", "secret": encoded}
            click.echo(json.dumps(facts))
        else:
            click.echo(key_file_text(peer_name(guid, name), secret), nl=False)
    except RoamRelayError as error:
        raise click.ClickException(shown(str(error))) from None


def _key_file(config: RelayConfig) -> str:
    return config.in_state(config.identity or "")


def _raise_limit(config: RelayConfig) -> dict[str, int]:
    """Take all the file descriptors that the process may have; return what is said of them."""
    before, now = raise_limit()
    room = Descriptors(now).connections
    raised = {"descriptors_before": before} if now != before else {}
    return {
        "descriptors": now,
        **raised,
        "max_connections": min(room, config.max_connections),
    }


async def _serve(
    config: RelayConfig,
    anew: Callable[[], RelayConfig],
    ready_file: str | None,
    systemd: Systemd,
    who: _Who,
) -> None:
    # Before the relay is made, which looks at what there is.
    descriptors = _raise_limit(config)
    server = RelayServer(config, who.identity, former=who.former)
    stop = server.drain_asked
    loop = asyncio.get_running_loop()

    def on_signal(number: int) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C ends it, undrained.
            loop.add_signal_handler(number, on_signal, number)
    async with server:
        if stop.is_set():
            # Told to end while it began: nobody was told that it serves.
            log.info("stopped")
            return
        if hasattr(signal, "SIGHUP"):
            loop.add_signal_handler(signal.SIGHUP, _reload, server, anew, systemd)
        more = {
            "state": config.state,
            "former": [one.guid for one in server.keys.served[1:]] or None,
            "admin": " ".join(server.admin_urls) or None,
            "bytes_per_second_per_peer": config.bytes_per_second_per_peer,
            "bytes_per_second_in_all": config.bytes_per_second_in_all,
        }
        chosen = {name: value for name, value in more.items() if value is not None}
        log.info("serving", url=" ".join(server.urls), relay=server.guid, **chosen, **descriptors)
        _advise(config, server.url, (server.admin_urls or server.urls)[0])
        spare_the_collector()
        if ready_file is not None:
            _write_ready(ready_file, server.urls)
        systemd.ready(_status(server))
        alive = loop.create_task(systemd.keep_alive())
        try:
            # No timeout: a relay serves until it is told to stop.
            await stop.wait()
            log.info("draining", connections=len(server.connections))
            systemd.stopping(server.config.drain_timeout)
            await server.drain()
        finally:
            alive.cancel()
    log.info("stopped")


def _advise(config: RelayConfig, url: str, for_operators: str) -> None:
    """Say what is insecure or gets lost, and what to do next."""
    steps = {"first_peer": f"peer --relay {url} listen chat", "whether_all_is_well": "relay check"}
    for one in advice(config):
        if one.level == "good":
            steps[one.about] = one.next_step
        else:
            log.warning(
                "not as it should be", about=one.about, said=one.said, next_step=one.next_step
            )
    if config.state is not None and config.operator_socket:
        steps["who_is_here"] = "relay status, relay peers, relay top"
    steps["dashboard"] = f"{for_operators}/"
    log.info("what to do next", **steps)


def _status(server: RelayServer) -> str:
    return f"{server.guid} at {' '.join(server.urls)}"


def _reload(server: RelayServer, anew: Callable[[], RelayConfig], systemd: Systemd) -> None:
    systemd.reloading()
    try:
        later = server.reload(anew())
    except ConfigError as error:
        log.error("not reloaded: all is as it was", reason=str(error))
        return
    finally:
        systemd.ready(_status(server))
    configure(server.config.log_format, server.config.log_level)
    log.info("reloaded")
    if later:
        log.warning("what has changed here needs a restart", keys=list(later))


def _write_ready(file: str, urls: Sequence[str]) -> None:
    part = f"{file}.part"
    try:
        Path(part).write_text("".join(f"{url}\n" for url in urls))
        os.replace(part, file)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(part)
        raise ConfigError(f"cannot write {file}: {error.strerror}") from None
