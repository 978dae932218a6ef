"""Contact links at the command line: `peer link` makes and reads them; every GUID may be one."""

from pathlib import Path
from typing import Any, Protocol, Self
from urllib.parse import urlsplit

import click
from msgspec import structs

from peers.cli.invocation import Invocation, Work
from peers.cli.terminal import Terminal
from peers.config import ConfigError, ContactLink, DdnsConfig, Identity, PeerConfig
from protocol.extras import needed

__all__ = ["WHOM", "link"]

_IMAGES = (".svg", ".png")


class _Settings(Protocol):
    """What the options before a subcommand say."""

    @property
    def config(self) -> PeerConfig: ...

    def identity(self) -> Identity: ...

    def with_config(self, config: PeerConfig) -> Self: ...

    def invocation(self, work: Work, as_json: bool = False) -> Invocation: ...


class _Whom(click.ParamType[str]):
    """A GUID, or a contact link: then the relay that it names is used where none is configured."""

    name = "guid"

    def convert(
        self, value: Any, param: click.Parameter | None, context: click.Context | None
    ) -> str:
        text = str(value)
        if not text.strip().lower().startswith("roam:"):
            return text
        found = ContactLink.parse(text)
        if context is not None and context.obj is not None:
            settings: _Settings = context.obj
            config = settings.config
            if config.relay is None and config.ddns is None:
                context.obj = settings.with_config(_with_places(config, found))
        return found.guid


WHOM = _Whom()


def _with_places(config: PeerConfig, found: ContactLink) -> PeerConfig:
    if found.relays:
        return structs.replace(config, relay=found.relays[0])
    if found.zone is not None:
        return structs.replace(config, ddns=DdnsConfig(zone=found.zone))
    return config


@click.command()
@click.argument("text", metavar="[LINK]", required=False)
@click.option("--name", help="What you want to be called.")
@click.option("--qr", is_flag=True, help="Draw a QR code below the link.")
@click.option(
    "--out",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write a QR code into FILE, an SVG or a PNG by its name.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")
@click.pass_obj
def link(
    settings: _Settings,
    text: str | None,
    name: str | None,
    qr: bool,
    out: Path | None,
    as_json: bool,
) -> Invocation:
    """Print this peer's contact link, which others hand to 'peer connect' and its like in place of
    a GUID; or say what is in LINK.

    It names this peer, its relay and its zone, as configured, and is no secret.

    \b
    Examples:
      peer --relay https://relay.example link --name Alice --qr
      peer connect "roam:GUID?relay=https:%2F%2Frelay.example" chat
    """
    if out is not None and out.suffix.lower() not in _IMAGES:
        raise click.BadParameter("a name that ends with .svg or .png", param_hint="--out")

    async def work(terminal: Terminal) -> None:
        shown = ContactLink.parse(text) if text is not None else _own(settings, name)
        lines = [shown.text] if text is None else list(_said(shown))
        if qr:
            lines += ["", _drawn(shown)]
        if out is not None:
            _write(shown, out)
        if text is None and any(map(_is_of_this_host, shown.relays)):
            terminal.notice("the relay that it names is reached from this host alone")
        if text is None and not (shown.relays or shown.zone):
            terminal.notice("it names no relay: others need yours (peer --relay URL link)")
        facts = _facts(shown) | {"link": shown.text}
        await terminal.answer("\n".join(lines), **facts)

    return settings.invocation(work, as_json)


def _facts(found: ContactLink) -> dict[str, Any]:
    """Return what a link says, for programs."""
    return {
        "guid": found.guid,
        "relays": found.relays,
        "zone": found.zone,
        "name": found.name,
    }


def _own(settings: _Settings, name: str | None) -> ContactLink:
    config = settings.config
    relays = () if config.relay is None else (config.relay,)
    zone = None if config.ddns is None else config.ddns.zone
    return ContactLink(settings.identity().guid, relays, zone, name)


def _is_of_this_host(url: str) -> bool:
    host = (urlsplit(url).hostname or "").rstrip(".")
    return host in ("localhost", "::1") or host.startswith("127.")


def _said(found: ContactLink) -> list[str]:
    said = [f"guid   {found.guid}"]
    said += [f"relay  {url}" for url in found.relays]
    said += [f"zone   {found.zone}"] if found.zone is not None else []
    said += [f"name   {found.name} (by its own word)"] if found.name is not None else []
    return said


def _made(found: ContactLink) -> Any:
    with needed("qr", "a QR code"):
        import segno
    return segno.make(found.text, error="m", micro=False)


def _drawn(found: ContactLink) -> str:
    """Two rows of modules a line: light ones are drawn, as most terminals are dark."""
    rows = [list(row) for row in _made(found).matrix_iter(border=2)]
    if len(rows) % 2:
        rows.append([1] * len(rows[0]))
    pairs = zip(rows[::2], rows[1::2], strict=True)
    halves = {(0, 0): "█", (0, 1): "▀", (1, 0): "▄", (1, 1): " "}
    return "\n".join(
        "".join(halves[bool(upper), bool(lower)] for upper, lower in zip(*pair, strict=True))
        for pair in pairs
    )


def _write(found: ContactLink, out: Path) -> None:
    try:
        _made(found).save(out, scale=8, border=4)
    except OSError as error:
        raise ConfigError(f"cannot write {out}: {error.strerror}") from None
