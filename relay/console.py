"""The operator's part of the `relay` command: who is here, who may come, and who has to go.

`invite` needs no relay that runs; the others ask it over its socket in the state folder.
"""

import asyncio
import contextlib
import errno
import math
import os
import re
import sys
import time
from collections.abc import Iterator
from typing import Any

import click
import msgspec

from protocol.errors import RoamRelayError
from protocol.identity import Identity
from protocol.invitation import MAX_NOTE, Token
from protocol.messages import Mode
from protocol.text import shown
from relay.answers import print_answer, when
from relay.config import ConfigError, RelayConfig
from relay.key_file import read_key
from relay.operator import (
    Allow,
    Announce,
    Answer,
    Asked,
    Ban,
    Bans,
    Drain,
    Failed,
    Forget,
    Invitations,
    OperatorError,
    Peers,
    Revoke,
    Status,
    StatusShown,
    ask,
)
from relay.place import configured
from relay.process import ended_by_signals

__all__ = ["COMMANDS", "CONFIG", "STATE", "Commands", "Duration", "in_one_line", "socket_of"]

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_LONGEST = 10 * 365 * 86_400


_UNWRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EBADF)


class Commands(click.Group):
    """The commands of `relay`: what cannot be printed, and what the system refuses, is one line
    too, and a signal ends them without a word."""

    def main(self, *words: Any, **settings: Any) -> Any:
        try:
            with ended_by_signals():
                return super().main(*words, **settings)
        except OSError as error:
            with contextlib.suppress(OSError):
                what = "cannot write: " if error.errno in _UNWRITTEN else ""
                click.echo(f"Error: {what}{error.strerror or error}", err=True)
            sys.exit(1)


class Duration(click.ParamType[int]):
    """Seconds, as `90`, `30s`, `15m`, `12h`, `7d` or `4w`."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, context: click.Context | None
    ) -> int:
        if isinstance(value, int):
            return value
        found = re.fullmatch(r"(\d{1,9})([smhdw]?)", str(value).strip())
        seconds = int(found[1]) * _UNITS[found[2]] if found else 0
        if not 0 < seconds <= _LONGEST:
            self.fail("a number and s, m, h, d or w, as 12h or 7d; at most ten years", param)
        return seconds


def _number(context: click.Context, param: click.Parameter, value: float | None) -> float | None:
    if value is not None and math.isnan(value):
        raise click.BadParameter("a number is wanted", context, param)
    return value


CONFIG = click.option("--config", "file", metavar="FILE", help="The relay's TOML file.")
STATE = click.option("--state", metavar="FOLDER", help="Its state folder, if not in that file.")
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_limit = click.option("--limit", type=click.IntRange(1, 10_000), default=1000, help="Rows [1000].")


@click.command()
@CONFIG
@STATE
@click.option("--key", metavar="FILE", help="The operator's key, if not the relay's own.")
@click.option("--uses", type=click.IntRange(1, 1_000_000), default=1, help="Peers [1].")
@click.option("--expires", type=Duration(), default="7d", help="When nobody new may come [7d].")
@click.option("--lifetime", type=Duration(), help="How long each is admitted; else for good.")
@click.option(
    "--rate",
    type=click.FloatRange(0, 1e6, min_open=True),
    callback=_number,
    help="Requests a second.",
)
@click.option("--mode", "modes", multiple=True, type=click.Choice([m.value for m in Mode]))
@click.option("--note", default="", help="For whom; whoever has the token can read it.")
@_json
def invite(
    file: str | None,
    state: str | None,
    key: str | None,
    as_json: bool,
    **terms: Any,
) -> None:
    """Make an invitation and print its token: a secret, for the peer that you hand it to.

    It is signed by the relay's own key, or by one that the relay names among its 'operators';
    the relay need not run. The peer shows it by 'peer --invite TOKEN'.

    \b
    Examples:
      relay invite --config relay.toml --note "Bob's phone"
      relay invite --config relay.toml --uses 20 --expires 2d --mode p2p --mode combined
    """
    with in_one_line():
        config = _load(file, state)
        token = _make(_operator(config, key), terms)
        _tell_running(config, token)
        _print_token(config, token, as_json)


@click.command()
@click.argument("subject", metavar="GUID|NETWORK")
@click.option("--for", "seconds", type=Duration(), help="How long; else until it is lifted.")
@click.option("--reason", default="", help="For 'relay bans' and the log; the peer is not told.")
@CONFIG
@STATE
@_json
def ban(subject: str, seconds: int | None, reason: str, **where: Any) -> None:
    """Keep a peer, or a network, out, and end what it has here, within a second.

    'relay allow' lifts it.

    \b
    Examples:
      relay ban --config relay.toml $GUID --for 2d --reason "too many requests"
      relay ban --config relay.toml 203.0.113.0/24
    """
    _ask_and_print(where, Ban(subject, seconds, reason))


@click.command()
@click.argument("subject", metavar="GUID|NETWORK")
@CONFIG
@STATE
@_json
def allow(subject: str, **where: Any) -> None:
    """Put a peer on the list, and lift its ban; or lift the ban of a network.

    \b
    Example:
      relay allow --config relay.toml $GUID
    """
    _ask_and_print(where, Allow(subject))


@click.command()
@click.argument("subject", metavar="GUID|INVITATION")
@click.option("--keep-peers", is_flag=True, help="Who has come by the invitation may stay.")
@CONFIG
@STATE
@_json
def revoke(subject: str, keep_peers: bool, **where: Any) -> None:
    """Take back a peer's admission, or an invitation with all who came by it, within a second.

    INVITATION is its id, as 'relay invite' and 'relay invitations' show it.

    \b
    Examples:
      relay revoke --config relay.toml $GUID
      relay revoke --config relay.toml 3f0c5a7e91b24d68 --keep-peers
    """
    _ask_and_print(where, Revoke(subject, keep_peers))


@click.command()
@click.argument("guid")
@CONFIG
@STATE
@_json
def forget(guid: str, **where: Any) -> None:
    """Remove what the relay keeps of a peer: when it was here, its admissions, its records in the
    zone. What it has here ends. A ban stays, and so does what logs and backups hold
    (docs/privacy.md).

    \b
    Example:
      relay forget --config relay.toml $GUID
    """
    _ask_and_print(where, Forget(guid))


@click.command()
@CONFIG
@STATE
@_json
def status(**where: Any) -> None:
    """Say how the relay is: who, where, since when, and whether it drains. Ends with 1 where none
    runs."""
    _ask_and_print(where, Status())


@click.command()
@click.option(
    "--wait",
    type=click.FloatRange(0, 86_400),
    default=60.0,
    callback=_number,
    help="Seconds for it to end; 0 does not wait [60].",
)
@CONFIG
@STATE
@_json
def drain(wait: float, **where: Any) -> None:
    """Have the relay send its peers away, let planes go on for its drain_timeout, and end, as
    SIGTERM does; wait until it has ended, or another one has its place. What a program that embeds
    a relay does then, it decides itself.

    \b
    Example:
      relay drain && relay serve
    """
    with in_one_line():
        path = socket_of(_load(where["file"], where["state"]))
        before = asyncio.run(ask(path, Status()))
    _ask_and_print(where, Drain())
    with in_one_line():
        if wait and not asyncio.run(_is_gone(path, before, wait)):
            raise OperatorError(f"it still runs after {wait:g} s: its log says what goes on")


async def _is_gone(path: str, before: Answer, seconds: float) -> bool:
    """Wait until a relay does not listen at a path any more; return whether it came to that."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            now = await ask(path, Status())
        except OperatorError:
            return True
        if (
            isinstance(now, StatusShown)
            and isinstance(before, StatusShown)
            and now.started != before.started
        ):
            return True
        await asyncio.sleep(0.5)
    return False


@click.command()
@_limit
@CONFIG
@STATE
@_json
def peers(limit: int, **where: Any) -> None:
    """List who is registered now."""
    _ask_and_print(where, Peers(limit))


@click.command()
@_limit
@CONFIG
@STATE
@_json
def bans(limit: int, **where: Any) -> None:
    """List who is kept out."""
    _ask_and_print(where, Bans(limit))


@click.command()
@_limit
@CONFIG
@STATE
@_json
def invitations(limit: int, **where: Any) -> None:
    """List the invitations that the relay knows, and how many have come by each."""
    _ask_and_print(where, Invitations(limit))


COMMANDS: tuple[click.Command, ...] = (
    *(status, drain, invite, ban, allow, revoke, forget, peers, bans, invitations),
)


def _load(file: str | None, state: str | None) -> RelayConfig:
    return configured(file, os.environ, {"state": state})


def socket_of(config: RelayConfig) -> str:
    """Return the path of a relay's socket.

    Raises:
        ConfigError: it has none.
    """
    if config.state is None:
        raise ConfigError(
            "which relay? Name its state folder with --state, or as 'state' in the file given by "
            "--config: a relay without one cannot be asked"
        )
    if not config.operator_socket:
        raise ConfigError("this relay has no socket for its operator: operator_socket is empty")
    return config.in_state(config.operator_socket)


def _operator(config: RelayConfig, key: str | None) -> Identity:
    """Return whose invitations the relay believes: its own key, or one of its operators'."""
    if key is not None:
        return read_key(key)
    if config.identity is None:
        raise ConfigError(
            "whose invitation? It is signed by the relay's key ('identity' in the file given by "
            "--config) or by that of one of its 'operators' (--key)"
        )
    return read_key(config.in_state(config.identity))


def _make(operator: Identity, terms: dict[str, Any]) -> Token:
    note = terms["note"]
    if len(note) > MAX_NOTE:
        raise ConfigError(f"--note: at most {MAX_NOTE} characters")
    return Token.make(
        operator,
        os.urandom(32),
        expires=int(time.time()) + terms["expires"],
        uses=terms["uses"],
        lifetime=terms["lifetime"] or 0,
        requests_per_second=terms["rate"] or 0.0,
        modes=tuple(dict.fromkeys(terms["modes"])),
        note=note,
    )


def _tell_running(config: RelayConfig, token: Token) -> None:
    """Have the relay list the invitation, where one runs here; it is as good without."""
    if config.state is not None and config.operator_socket:
        with contextlib.suppress(OperatorError):
            asyncio.run(ask(socket_of(config), Announce(token.statement)))


def _print_token(config: RelayConfig, token: Token, as_json: bool) -> None:
    said = token.invitation
    if as_json:
        shown_json = {
            "token": token.text,
            "id": said.id,
            "expires": said.expires,
            "uses": said.uses,
            "lifetime": said.lifetime or None,
            "requests_per_second": said.requests_per_second or None,
            "modes": said.modes or None,
            "note": said.note,
        }
        click.echo(msgspec.json.encode(shown_json).decode())
        return
    click.echo(token.text)
    peers = "1 peer" if said.uses == 1 else f"{said.uses} peers"
    click.echo(
        f"Invitation {said.id} admits {peers} until {when(said.expires)}. It is a secret: hand it "
        f"over in private; 'relay revoke {said.id}' takes it back.",
        err=True,
    )
    if config.admission != "invited":
        click.echo(
            f"The relay does not ask for it yet: admission is {config.admission!r} in this "
            "configuration, not 'invited'.",
            err=True,
        )


def _ask_and_print(where: dict[str, Any], asked: Asked) -> None:
    with in_one_line():
        config = _load(where["file"], where["state"])
        answer = asyncio.run(ask(socket_of(config), asked))
        if isinstance(answer, Failed):
            raise OperatorError(answer.reason)
        if where["as_json"]:
            click.echo(msgspec.json.encode(answer).decode())
        else:
            print_answer(answer)


@contextlib.contextmanager
def in_one_line() -> Iterator[None]:
    """What is wrong is said in one line."""
    try:
        yield
    except RoamRelayError as error:
        raise click.ClickException(shown(str(error))) from None
