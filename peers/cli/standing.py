"""How a peer stands: what `peer status` shows, as facts and as lines."""

import os
from collections.abc import Iterator

import msgspec

from peers import ConnectionClosed, DialCounts, Path, Peer, PeerFigures, Session

__all__ = ["AddressShown", "PathShown", "SessionShown", "Standing", "standing"]


class PathShown(msgspec.Struct, frozen=True):
    """A path of a session."""

    kind: str
    local: str
    remote: str
    round_trip: float | None
    """Seconds."""
    lock: str = "tls"
    """What it is locked by."""


class SessionShown(msgspec.Struct, frozen=True):
    """A session that is not over."""

    remote: str
    service: str
    mode: str
    state: str
    seconds: float
    sent: int
    sent_bytes: int
    acknowledged: int
    taken: int
    taken_bytes: int
    paths: int
    """That it has had."""
    path: PathShown | None
    why: str
    """The rule by which that path was chosen."""
    standby: str
    """The path that stands ready, or why there is none."""
    pinned: bool


class AddressShown(msgspec.Struct, frozen=True):
    """An address of this peer, as it tells it."""

    host: str
    provenance: str
    phase: str


class Standing(msgspec.Struct, frozen=True):
    """How a peer stands."""

    guid: str
    pid: int
    state: str
    """To its relay: docs/programs.md has the words."""
    cause: str | None
    lasting: bool
    relay: str | None
    relay_guid: str | None
    carrier: str | None
    """The one that is configured; None for whichever gets through."""
    zone: str | None
    port: int | None
    """The TCP port for direct paths; None before the peer is open."""
    addresses: tuple[AddressShown, ...]
    services: tuple[str, ...]
    watches: tuple[str, ...]
    """GUIDs."""
    conversations: tuple[tuple[str, str], ...]
    """The GUID and the service of each one that is open."""
    sessions: tuple[SessionShown, ...]
    dialed: dict[str, int]
    """Connections that this peer has opened, by the reason."""
    not_dialed: dict[str, int]
    """Those that it would not, by whose word they would have been."""

    def lines(self) -> Iterator[str]:
        """Say it to people."""
        cause = f": {self.cause}" if self.cause and self.state not in _GOOD else ""
        yield f"peer       {self.guid} (process {self.pid})"
        yield f"link       {self.state}{cause}"
        if self.relay is not None:
            more = [word for word in (self.carrier, self.relay_guid) if word is not None]
            words = f" ({', '.join(more)})" if more else ""
            yield f"relay      {self.relay}{words}"
        if self.zone is not None:
            yield f"zone       {self.zone}"
        for address in self.addresses:
            port = "" if self.port is None else f", port {self.port}"
            yield f"address    {address.host} ({address.provenance}, {address.phase}{port})"
        yield f"services   {', '.join(self.services) or 'none'}"
        for guid in self.watches:
            yield f"watches    {guid}"
        for guid, service in self.conversations:
            yield f"converses  {guid} {service}"
        counts = sum(self.dialed.values()), sum(self.not_dialed.values())
        yield f"dialed     {counts[0]}, not dialed {counts[1]}"
        yield f"sessions   {len(self.sessions) or 'none'}"
        for session in self.sessions:
            yield from _lines_of(session)


_GOOD = ("registered", "back")


def standing(peer: Peer) -> Standing:
    """Return how a peer stands now; it may be closed, or not open yet."""
    status, config = peer.status, peer.config
    addresses: tuple[AddressShown, ...] = ()
    sessions: tuple[SessionShown, ...] = ()
    figures = PeerFigures((), (), ())
    port, relay_guid, dialing = None, None, DialCounts()
    try:
        addresses = tuple(
            AddressShown(host, provenance.value, phase.value)
            for host, (provenance, phase) in peer.places.items()
        )
        sessions = tuple(map(_session, peer.sessions))
        figures, port, relay_guid = peer.figures(), peer.port, peer.relay_guid
        dialing = peer.dialing
    except ConnectionClosed:
        pass  # It is not open yet: there is no more to tell.
    return Standing(
        guid=peer.guid,
        pid=os.getpid(),
        state=status.state.value,
        cause=status.cause.reason if status.cause is not None else None,
        lasting=status.lasting,
        relay=config.relay,
        relay_guid=relay_guid,
        carrier=config.carrier.value if config.carrier is not None else None,
        zone=config.ddns.zone if config.ddns is not None else None,
        port=port,
        addresses=addresses,
        services=figures.services,
        watches=figures.watches,
        conversations=figures.conversations,
        sessions=sessions,
        dialed=dialing.dialed,
        not_dialed=dialing.refused,
    )


def _session(session: Session) -> SessionShown:
    figures, why = session.figures(), session.explain()
    return SessionShown(
        remote=session.remote,
        service=session.service,
        mode=session.mode.value,
        state=session.state.value,
        seconds=figures.seconds,
        sent=figures.sent,
        sent_bytes=figures.sent_bytes,
        acknowledged=figures.acknowledged,
        taken=figures.taken,
        taken_bytes=figures.taken_bytes,
        paths=figures.paths,
        path=_path(session.path, session.round_trip),
        why=why.rule,
        standby=why.standby,
        pinned=why.pinned,
    )


def _path(path: Path | None, round_trip: float | None) -> PathShown | None:
    if path is None:
        return None
    return PathShown(path.kind.value, path.local, path.remote, round_trip, path.lock.value)


def _lines_of(session: SessionShown) -> Iterator[str]:
    yield (
        f"  {session.remote} {session.service} ({session.mode}, {session.state}, "
        f"{session.seconds:.0f} s)"
    )
    path = session.path
    if path is None:
        yield "    path       none: it looks for one"
    else:
        trip = "" if path.round_trip is None else f", {path.round_trip * 1e3:.1f} ms"
        yield f"    path       {path.kind}, {path.local} to {path.remote}{trip}"
        yield f"    lock       {path.lock}"
        yield f"    why        {session.why}{', pinned' if session.pinned else ''}"
    yield f"    standby    {session.standby}"
    yield (
        f"    sent       {session.sent} messages, {session.sent_bytes} bytes, "
        f"{session.sent - session.acknowledged} not acknowledged"
    )
    yield f"    received   {session.taken} messages, {session.taken_bytes} bytes"
    yield f"    paths      {session.paths}"
