"""The rooms of an open peer: how they are built, started, and closed, in order, and who of them is
told what. What happens between is in them."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, assert_never

from peers.choice import RoundTrips
from peers.config import DdnsConfig, PeerConfig, log
from peers.control import (
    Account,
    LetterArrived,
    Link,
    PeerChanged,
    PrimaryChanged,
    Registration,
    RegistrationEnded,
    RegistrationEvent,
    RegistrationLost,
    RelayRestarting,
    RelaySucceeded,
    RequestArrived,
    StandbyLost,
    Watching,
)
from peers.conversations import Conversations, Preference
from peers.dialing import Door
from peers.gateway import PortMapper
from peers.host import AddressSource, Interfaces, system_addresses
from peers.location import OwnLocation
from peers.mailbox import Mailbox
from peers.opening import Opening, Wish
from peers.path import Paths
from peers.publication import Publication
from peers.roaming import (
    Candidates,
    Incoming,
    Local,
    Lookup,
    Means,
    Outgoing,
    Planes,
    Probes,
    Rounds,
    Sessions,
    Signs,
    Standbys,
    Ways,
)
from peers.services import Services, ServicesChanged
from peers.session import Session
from peers.tasks import Tasks, unless
from peers.transport import DirectServer
from peers.whereabouts import Whereabouts
from protocol.errors import RelayMisconfigured, RelayUnavailable
from protocol.extras import needed
from protocol.identity import Identity
from protocol.invitation import Token

if TYPE_CHECKING:
    import dns.tsig

    from peers.dns import Names

__all__ = ["Leaving", "PeerFigures", "Rooms", "build", "pass_on", "read_dns_key", "start"]

_WITH_ZONE = 2.0
"""Seconds to wait for the relay where the zone can be asked too."""
_LAST_WORDS = 0.2
"""Seconds for what was said last to leave, where the sessions have taken all the time there was."""

Tell: TypeAlias = Callable[[RegistrationEvent | ServicesChanged], None]
"""Takes the news of the lower rooms."""


@dataclass(frozen=True, slots=True)
class PeerFigures:
    """What a peer has now, beside its sessions."""

    services: tuple[str, ...]
    """The names of what it offers."""
    watches: tuple[str, ...]
    """The GUIDs of the peers that it watches."""
    conversations: tuple[tuple[str, str], ...]
    """The GUID and the service of each conversation that is open."""


@dataclass(frozen=True, slots=True)
class Rooms:
    """What an open peer consists of."""

    loop: asyncio.AbstractEventLoop
    """The one that all of it runs in."""
    direct: DirectServer
    location: OwnLocation
    services: Services
    names: "Names | None"
    registration: Registration
    local: Local
    candidates: Candidates
    ways: Ways
    lookup: Lookup
    sessions: Sessions
    outgoing: Outgoing
    incoming: Incoming
    presence: Watching
    mailbox: Mailbox
    publication: Publication
    whereabouts: Whereabouts
    ports: PortMapper
    opening: Opening
    conversations: Conversations

    def figures(self) -> PeerFigures:
        """Return what there is now."""
        return PeerFigures(
            tuple(self.services.listeners), self.presence.watched, self.conversations.open
        )


def read_dns_key(config: DdnsConfig, guid: str) -> "dns.tsig.Key | None":
    """Return the key for a peer's updates; None where none is configured.

    Raises:
        DdnsConfigError: it cannot be used.
        MissingExtra: there is no dynamic DNS in this installation.
    """
    with needed("dns", "dynamic DNS"):
        from peers.dns import read_key

    return read_key(config, guid)


def build(
    identity: Identity, config: PeerConfig, dns_key: "dns.tsig.Key | None", tell: Tell
) -> Rooms:
    """Build every room in one go, the lowest first. Nothing runs yet, but the port is bound. `tell`
    gets the news of the lower ones."""
    direct = DirectServer.bind(config.listen_hosts, config.listen_port)
    try:
        location = OwnLocation(
            identity, direct.port, configured=config.advertise, lifetime=config.lifetime
        )
        interfaces = Interfaces(config)
        door = Door(config, interfaces, direct.port)
        services = Services(
            location, tell, registers=config.relay is not None, blocked=config.blocked
        )
        names = None
        if config.ddns is not None:
            with needed("dns", "dynamic DNS"):
                from peers.dns import Names, Zone

            zone = Zone(config.ddns, dns_key, door)
            names = Names(identity.guid, zone, location, services.offered)
        token = Token.parse(config.invitation) if config.invitation is not None else None
        account = Account(identity, location.instance, invitation=token)
        registration = Registration(account, config, services, tell, door)
        tasks = Tasks()
        local = Local(identity, config, location, Paths(identity), tasks, door)
        candidates = Candidates(config, interfaces, RoundTrips(time.monotonic))
        ways = Ways(local, candidates, registration)
        lookup = Lookup(config, registration, names.lookup if names is not None else None)
        presence = Watching(registration.watch)
        signs = Signs(presence.watch, tasks.spawn)
        rounds = Rounds(lookup, ways, config.request_timeout, signs)
        probes = Probes(ways, candidates)
        standbys = Standbys(ways, candidates)
        planes = Planes(rounds, candidates)
        means = Means(ways, rounds, probes, registration, standbys, planes, signs)
        sessions = Sessions(local, means)
        publication = Publication(config, registration, names, tasks)
        outgoing = Outgoing(config, sessions, presence.watch, lookup.ask_names)
        whereabouts = Whereabouts(interfaces, location, registration, sessions, publication)
        opening = Opening(identity.guid, config, services, whereabouts, outgoing)

        async def open_conversation(
            guid: str, service: str, wanted: Preference, wait: bool
        ) -> Session:
            wish = Wish(guid, service, wanted.mode, wanted.policy, conversation=True)
            return await opening.open(wish, config.request_timeout, wait=wait)

        mailbox = Mailbox(identity, config, registration, services.blocks)
        return Rooms(
            loop=asyncio.get_running_loop(),
            direct=direct,
            location=location,
            services=services,
            names=names,
            registration=registration,
            local=local,
            candidates=candidates,
            ways=ways,
            lookup=lookup,
            sessions=sessions,
            outgoing=outgoing,
            incoming=Incoming(local, services, sessions, ways, candidates),
            presence=presence,
            mailbox=mailbox,
            publication=publication,
            whereabouts=whereabouts,
            ports=PortMapper(config.map_port, direct.port, whereabouts.port_mapped),
            opening=opening,
            conversations=Conversations(identity.guid, services, open_conversation, mailbox),
        )
    except BaseException:
        direct.close()
        raise


async def start(rooms: Rooms, config: PeerConfig, addresses: AddressSource | None) -> None:
    """Accept paths, register, and wait for the relay; with a zone, nothing that the relay brings is
    waited for."""
    spawn = rooms.local.tasks.spawn
    await rooms.direct.start(rooms.incoming.serve, spawn)
    source = addresses or system_addresses()
    await rooms.whereabouts.begin(source, look=bool(config.sources) or config.relay is None)
    spawn(rooms.whereabouts.follow(source))
    if rooms.ports.is_wanted:
        spawn(rooms.ports.run())
    if rooms.names is not None:
        rooms.names.start(spawn)
    if config.relay is None:
        return
    patience: float | None = None if config.wait_for_relay else config.connect_timeout
    try:
        await rooms.registration.connection(_WITH_ZONE if rooms.names is not None else patience)
    except RelayUnavailable:
        if rooms.names is None or rooms.registration.is_over:
            raise


def pass_on(event: RegistrationEvent | ServicesChanged, rooms: Rooms, link: Link) -> bool:
    """Give news of the lower rooms to those above; return whether the peer stands otherwise with
    its relay now, as `link` has it."""
    differs = False
    match event:
        case RequestArrived(connection, request):
            rooms.incoming.request(connection, request)
        case PeerChanged(changed):
            rooms.presence.receive(changed)
        case LetterArrived(connection, letter):
            rooms.mailbox.arrived(connection, letter)
        case RelaySucceeded(relay):
            differs = link.succeeded(relay)
        case RelayRestarting():
            differs = link.restarting()
        case RegistrationLost(error):
            rooms.presence.relay_lost()
            differs = link.lost(error, lasting=isinstance(error, RelayMisconfigured))
        case PrimaryChanged(connection):
            rooms.mailbox.connected(connection)
            differs = link.registered()
            rooms.whereabouts.registered()
            rooms.ports.look()
            rooms.sessions.relay_found()
            rooms.presence.restore()
        case StandbyLost():
            rooms.whereabouts.registered()
        case RegistrationEnded(error):
            rooms.presence.relay_lost()
            differs = link.ended(error)
            rooms.services.end(error)
        case ServicesChanged(ended):
            if ended is not None:
                rooms.sessions.end_announced(ended)
            rooms.publication.changed()
        case _:
            assert_never(event)
    return differs


class Leaving:
    """A peer that is being closed: its sessions cleanly, as far as it is possible within `grace`
    seconds. When `at_once` is set, nothing waits for anybody else any more."""

    def __init__(self, rooms: Rooms, grace: float) -> None:
        self.at_once = asyncio.Event()
        self._closing = rooms.loop.create_task(_close(rooms, self.at_once, grace))

    async def wait(self) -> asyncio.CancelledError | None:
        """Wait until nothing is left. Being cancelled makes that fast, and is returned."""
        cancelled: asyncio.CancelledError | None = None
        while not self._closing.done():
            try:
                # What is waited for has its own deadlines, and none once it must be fast.
                await asyncio.wait({self._closing})
            except asyncio.CancelledError as error:
                cancelled = error
                self.at_once.set()
        return cancelled

    def result(self) -> None:
        """Raise what went wrong, where something did that nobody expected."""
        self._closing.result()


async def _close(rooms: Rooms, at_once: asyncio.Event, grace: float) -> None:
    """End everything, each step on its own: what one of them raises is logged, and stops none."""

    async def closed(step: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await unless(at_once, step)
        except Exception:
            log.exception("closing a peer")

    began = rooms.loop.time()
    if unused := rooms.local.config.unused(rooms.services.used):
        log.info(
            "services in the configuration that were neither offered nor asked for",
            services=" ".join(unused),
        )
    for end in (rooms.direct.close, rooms.services.close, rooms.presence.close):
        try:
            end()
        except Exception:
            log.exception("closing a peer")
    # First, so that what arrives while sessions are closed is neither lost nor acknowledged.
    await closed(rooms.conversations.close)
    # A session that has no path just now may still find one, to be closed cleanly on it.
    await closed(partial(rooms.sessions.close, grace))
    rooms.sessions.abort()
    await rooms.conversations.close()
    await rooms.mailbox.close()  # Its keys are in the same store.
    await closed(rooms.conversations.close_store)
    await closed(rooms.registration.close)
    if rooms.names is not None:
        await closed(rooms.names.withdraw)
    for last in (rooms.registration.close, rooms.local.tasks.close):
        await last()
    left = max(began + grace - rooms.loop.time(), _LAST_WORDS)
    await closed(partial(rooms.local.paths.close, left))
    await rooms.local.paths.abort()
