"""Whether a configuration will serve, before it does: what is wrong, what is insecure, what is not
as it could be, each with the next step. Looks only: nothing is made, written or changed.

No name server and no other host is asked but NATS, where there is a cluster: what the world sees of
the relay is not looked at here.
"""

import contextlib
import importlib.util
import ipaddress
import os
import sqlite3
import stat
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

from protocol.errors import IdentityError, MissingExtra
from protocol.extras import LIBRARIES
from relay.config import KEY, ConfigError, RelayConfig
from relay.console import socket_of
from relay.http import AdminToken, Descriptors, hard_limit
from relay.key_file import read_key
from relay.listening import try_out
from relay.mailbox import VERSION as MAILBOX_VERSION
from relay.operator import OperatorError, Top, TopShown, ask
from relay.rotation import read_former
from relay.server import BOOK, STORES
from relay.tls import Certificate

__all__ = ["Finding", "Level", "advice", "look"]

Level: TypeAlias = Literal["good", "warning", "error"]
"""`error`: the relay will not start, or not serve so."""

_DAY = 86_400
_SOON = 14 * _DAY
"""Seconds before its end at which a certificate is worth a warning."""
_ROOM = 64 << 20
"""Free bytes of the disk below which the state folder is worth a warning."""
_PIPE_PAGES = Path("/proc/sys/fs/pipe-user-pages-soft")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    level: Level
    about: str
    said: str
    next_step: str = ""
    """Empty where nothing has to be done."""


async def look(config: RelayConfig) -> AsyncIterator[Finding]:
    """Look at all that a start depends on, and at what is insecure, in the order in which a start
    would meet it."""
    running = None
    for one in _state(config):
        yield one
    if config.state is not None and config.operator_socket:
        with contextlib.suppress(OperatorError):
            running = await ask(socket_of(config), Top(limit=1))
    if isinstance(running, TopShown):
        since = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(running.process.started))
        said = f"version {running.build['version']} serves since {since}"
        yield Finding("good", "running", f"{said}, {running.registered} peers")
    for part in (_identity(config), _certificate(config), _exposure(config), _admin(config)):
        for one in part:
            yield one
    is_running = isinstance(running, TopShown)
    async for one in _ports(config, is_running):
        yield one
    async for one in _cluster(config, is_running):
        yield one
    for part in (
        _zone(config),
        _letters(config),
        _stores(config),
        _descriptors(config),
        _pipes(),
        _speed(),
    ):
        for one in part:
            yield one


def advice(config: RelayConfig) -> Iterator[Finding]:
    """Return what is worth saying at each start: what is insecure or gets lost, and the next
    step."""
    if config.state is None:
        yield from _state(config)
    if config.identity is None:
        yield from _identity(config)
    for one in _exposure(config):
        if one.next_step:
            yield one


def _state(config: RelayConfig) -> Iterator[Finding]:
    if config.state is None:
        yield Finding(
            "warning",
            "state",
            "bans, invitations, and who was here are forgotten at the end, and 'relay ban' and its "
            "like do not work",
            "name a folder as 'state'",
        )
        return
    folder = Path(config.state)
    try:
        mode = stat.S_IMODE(folder.stat().st_mode)
    except FileNotFoundError:
        yield _of_the_place(folder)
        return
    except OSError as error:
        yield Finding("error", "state", f"cannot use the folder {folder}: {error.strerror}")
        return
    if not folder.is_dir():
        yield Finding("error", "state", f"{folder} is no folder", "move it away, or name another")
    elif not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        yield Finding(
            "error",
            "state",
            f"this user may not write into {folder}",
            "run this as the user who runs the relay, or give the folder to this one",
        )
    elif os.name == "posix" and mode & 0o077:
        level: Level = "error" if mode & 0o022 else "warning"
        what = "write into" if mode & 0o022 else "look into"
        said = f"others may {what} {folder} (mode {mode:04o})"
        yield Finding(level, "state", said, f"chmod 700 {folder}")
    else:
        yield _room(folder)


def _of_the_place(folder: Path) -> Finding:
    """Of a folder that is not there."""
    place = next(parent for parent in folder.absolute().parents if parent.exists())
    if os.access(place, os.W_OK | os.X_OK) and place.is_dir():
        return Finding("good", "state", f"{folder} will be made")
    return Finding(
        "error",
        "state",
        f"there is no {folder}, and this user cannot make it in {place}",
        "make it for the user who runs the relay, with mode 700",
    )


def _room(folder: Path) -> Finding:
    try:
        disk = os.statvfs(folder)
    except (AttributeError, OSError):  # Windows has no such call.
        return Finding("good", "state", str(folder))
    free = disk.f_bavail * disk.f_frsize
    said = f"{folder}, {free >> 20} MiB free"
    if free < _ROOM:
        return Finding("warning", "state", said, "make room: a full disk takes no ban")
    return Finding("good", "state", said)


def _identity(config: RelayConfig) -> Iterator[Finding]:
    if config.identity is None:
        yield Finding(
            "warning",
            "identity",
            "the relay has a new GUID at each start: peers that pin it are lost",
            "'relay key FILE' makes a key: name it as 'identity'",
        )
        return
    file = config.in_state(config.identity)
    if config.identity == KEY and config.state is not None and not os.path.lexists(file):
        if os.path.exists(config.in_state(BOOK)):
            said = f"there is no {file}, and a relay was here: the next start makes another GUID"
            yield Finding("warning", "identity", said, "'relay restore' puts a backup back")
        else:
            yield Finding("good", "identity", f"{file} will be made")
        return
    try:
        key = read_key(file)
        former = read_former(file, key)
    except IdentityError as error:
        yield Finding("error", "identity", str(error))
        return
    besides = f", and as {len(former)} former ones" if former else ""
    yield Finding("good", "identity", key.guid + besides)


def _certificate(config: RelayConfig) -> Iterator[Finding]:
    if config.tls_certificate is None or config.tls_key is None:
        return
    try:
        ends = Certificate(config.tls_certificate, config.tls_key).ends
    except ConfigError as error:
        yield Finding("error", "certificate", str(error))
        return
    left = ends - time.time()
    until = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(ends))
    if os.name == "posix" and os.stat(config.tls_key).st_mode & 0o004:
        said = f"everybody may read the key {config.tls_key}"
        yield Finding("warning", "certificate", said, f"chmod 600 {config.tls_key}")
    if left <= 0:
        yield Finding("error", "certificate", f"it has ended {until}: peers refuse it", "renew it")
    elif left < _SOON:
        yield Finding("warning", "certificate", f"it ends {until}", "renew it")
    else:
        yield Finding("good", "certificate", f"good until {until}")


def _exposure(config: RelayConfig) -> Iterator[Finding]:
    if config.only_on_loopback:
        behind = "" if config.trusted_proxies is None else ", or by a proxy on it"
        yield Finding(
            "good",
            "reach",
            f"from this host alone{behind}",
            "" if behind else "to serve other hosts, listen on '::', or have a proxy before it",
        )
        return
    if config.tls_certificate is None and not config.trusted_proxies:
        yield Finding(
            "warning",
            "reach",
            "other hosts come in plain text: who is on the way reads who asks for whom, and where "
            "they are (what peers say to one another is sealed)",
            "name tls_certificate and tls_key, or have a proxy with TLS before it and name it in "
            "trusted_proxies",
        )
    if config.admission == "open":
        yield Finding(
            "good",
            "admission",
            "everybody may register, within the shares of docs/security.md",
            "for peers of your own only: admission = 'listed' or 'invited'",
        )


def _admin(config: RelayConfig) -> Iterator[Finding]:
    if config.admin_token is None:
        return
    try:
        AdminToken().load(config)
    except ConfigError as error:
        yield Finding("error", "admin_token", str(error))


async def _ports(config: RelayConfig, is_running: bool) -> AsyncIterator[Finding]:
    places = [("port", config.hosts, config.port, False)]
    if config.admin_host is not None:
        places.append(("admin_port", config.admin_hosts, config.admin_port, False))
    if config.observe_port:
        places.append(("observe_port", config.hosts, config.observe_port, False))
    if config.dns is not None:
        places.append(("dns: port", config.dns.hosts or config.hosts, config.dns.port, True))
    for about, hosts, port, udp in places:
        try:
            taken = await try_out(hosts, port, udp=udp)
        except ConfigError as error:
            yield Finding("error", about, str(error))
            continue
        where = f"{' '.join(hosts)} port {port or 'any'}"
        if not taken:
            yield Finding("good", about, f"{where} is free")
        elif is_running:
            yield Finding("good", about, f"{where} is taken, as it should be while a relay runs")
        else:
            yield Finding("error", about, taken)


async def _cluster(config: RelayConfig, is_running: bool) -> AsyncIterator[Finding]:
    own = config.cluster
    if own is None:
        return
    if not _has("cluster"):
        yield Finding("error", "cluster", str(MissingExtra("a cluster of relays", "cluster")))
        return
    if config.identity is None or not os.path.lexists(config.in_state(config.identity)):
        yield Finding(
            "error",
            "cluster",
            "this node makes a key of its own, and so it is a cluster of its own",
            "give every node one key file: 'relay key FILE' makes it",
        )
        return
    if not own.all_urls and any(host in ("::", "0.0.0.0") for host in config.hosts):
        yield Finding(
            "error",
            "cluster",
            "nobody can be told where this node is reached: it listens everywhere",
            "name its own URL as 'urls' in [cluster]",
        )
    try:
        identity = read_key(config.in_state(config.identity))
    except IdentityError:
        return  # Said above.
    from relay.cluster import LinkLost, look_at_jetstream, look_at_zones
    from relay.cluster import try_out as try_out_cluster

    try:
        trial = await try_out_cluster(own, config.in_state, identity)
    except LinkLost as error:
        yield Finding(
            "error",
            "cluster",
            f"{' '.join(own.all_servers)}: {error.reason}",
            "see that nats-server runs there, and takes this node's credentials",
        )
        return
    if trial.foreign:
        yield Finding(
            "warning",
            "cluster",
            f"others say what no relay of this key says below '{own.prefix}.'",
            "give every node this key file, or this cluster another 'prefix'",
        )
    if own.node in trial.nodes and not is_running:
        yield Finding(
            "error", "cluster", f"another node has the name {own.node}", "name it otherwise"
        )
        return
    others = [name for name in trial.nodes if name != own.node]
    said = f"with {', '.join(others)}" if others else "no other node is there now"
    yield Finding("good", "cluster", f"node {own.node}: {said}")
    for level, said, next_step in look_at_zones(config, trial):
        yield Finding(level, "dns", said, next_step)
    for level, kept, next_step in await look_at_jetstream(config):
        yield Finding(level, "jetstream", kept, next_step)


def _zone(config: RelayConfig) -> Iterator[Finding]:
    if config.dns is None:
        return
    if not _has("dns"):
        yield Finding("error", "dns", str(MissingExtra("the relay's own zone", "dns")))
        return
    if config.identity is None:
        yield Finding(
            "warning",
            "dns",
            "the zone's keys change with each start",
            "name a key file as 'identity'",
        )
    if config.cluster is None and not config.dns.store:
        yield Finding(
            "warning",
            "dns",
            "what peers register in the zone is forgotten at the end",
            "name a file as 'store' in [dns]",
        )
    if config.dns.port != 53:
        yield Finding(
            "good",
            "dns",
            f"{config.dns.zone} at port {config.dns.port}",
            "resolvers find it at port 53 only",
        )


def _letters(config: RelayConfig) -> Iterator[Finding]:
    if config.keeps_letters:
        most = config.mailbox.bytes_in_all >> 20
        where = "" if config.cluster is None else " in a stream of NATS"
        said = f"letters are kept for peers who are away{where}, {most} MiB of them at most"
        yield Finding("good", "mailbox", said)
        url = config.mailbox.wake_url
        if url is not None and url.startswith("http:") and not _is_here(url):
            yield Finding(
                "warning",
                "mailbox",
                "who has mail is told unencrypted to another host",
                "use https:// in wake_url",
            )


def _is_here(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _stores(config: RelayConfig) -> Iterator[Finding]:
    versions = {} if config.state is None else {config.in_state(one): STORES[one] for one in STORES}
    if config.dns is not None and config.dns.store and _has("dns"):
        from relay.dns import DnsStore

        versions[config.in_state(config.dns.store)] = DnsStore.VERSION
    if config.keeps_letters and config.cluster is None:
        versions[config.in_state(config.mailbox.store)] = MAILBOX_VERSION
    for file, version in versions.items():
        if not os.path.exists(file):
            continue
        wrong = _wrong_with(Path(file), version)
        if wrong:
            yield Finding(
                "error",
                "store",
                f"{file}: {wrong}",
                "'relay restore' puts a backup back; without one move it away: what is in it is "
                "forgotten then",
            )
        else:
            yield Finding("good", "store", f"{file} is whole")


def _wrong_with(file: Path, version: int) -> str:
    """Return what is wrong with a store, whose tables are of a version here; empty where nothing
    is."""
    # Where nobody has it open, and nobody was killed, SQLite would make its log to read it.
    way = "mode=ro" if Path(f"{file}-wal").exists() else "immutable=1"
    try:
        with contextlib.closing(
            sqlite3.connect(f"{file.absolute().as_uri()}?{way}", uri=True, timeout=1.0)
        ) as connection:
            (there,) = connection.execute("PRAGMA user_version").fetchone()
            (said,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        return str(error)
    if there > version:
        return "a newer version of this program has written it: run that one"
    return "" if said == "ok" else str(said)


def _descriptors(config: RelayConfig) -> Iterator[Finding]:
    most = hard_limit()
    room = Descriptors(most).connections
    said = f"{most}: {min(room, config.max_connections)} peers"
    if room < config.max_connections:
        yield Finding(
            "warning",
            "descriptors",
            f"{said}, in place of the {config.max_connections} of max_connections",
            "raise the hard limit (ulimit -Hn; systemd: LimitNOFILE=), or lower max_connections",
        )
    else:
        yield Finding("good", "descriptors", said)


def _pipes() -> Iterator[Finding]:
    """The kernel's bound on what the pipes of one user hold: beyond it planes copy."""
    try:
        pages = int(_PIPE_PAGES.read_text())
    except (OSError, ValueError):
        return  # Not Linux: planes copy anyway.
    if pages and not _is_unbound():
        whole = pages * os.sysconf("SC_PAGE_SIZE") >> 20
        yield Finding(
            "good",
            "pipes",
            f"{whole} MiB for those of this user: planes that move bytes at once beyond that are "
            "copied, which takes more time",
            "sysctl fs.pipe-user-pages-soft=0 lifts it, or the capability CAP_SYS_RESOURCE",
        )


def _is_unbound() -> bool:
    """Whether this process may have as much in pipes as it likes (CAP_SYS_RESOURCE: bit 24)."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        status = Path("/proc/self/status").read_text()
        return bool(int(status.partition("CapEff:")[2].split()[0], 16) & (1 << 24))
    return False


def _speed() -> Iterator[Finding]:
    if os.name == "posix" and not _has("uvloop"):
        yield Finding(
            "warning",
            "loop",
            "asyncio's own loop serves, more slowly",
            "pip install 'roam-relay[uvloop]'",
        )
    if not _has("sodium"):
        yield Finding(
            "warning",
            "signatures",
            "each signature takes twice as long to verify",
            "pip install 'roam-relay[sodium]'",
        )


def _has(extra: str) -> bool:
    return importlib.util.find_spec(LIBRARIES[extra]) is not None
