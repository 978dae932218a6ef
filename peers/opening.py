"""What a program asks of a session, checked, and opened by the rules of the configuration."""

from dataclasses import dataclass

from peers.choice import Select
from peers.config import (
    PeerConfig,
    checked_guid,
    checked_metadata,
    checked_mode,
    checked_policy,
    checked_service,
    policy_for,
)
from peers.roaming import Outgoing
from peers.services import Services
from peers.session import Session, Terms
from peers.whereabouts import Whereabouts
from protocol.errors import IdentityError
from protocol.messages import Mode

__all__ = ["Opening", "Wish"]


@dataclass(frozen=True, slots=True)
class Wish:
    """A session that is asked for."""

    guid: str
    service: str
    mode: Mode | str | None = None
    policy: str | None = None
    select: Select | str | None = None
    """These three go before the configuration."""
    conversation: bool = False
    """Whether it is to carry a conversation."""
    metadata: bytes | bytearray | memoryview = b""
    """What the other application gets to see before it takes the session."""


class Opening:
    """Opens the sessions that the program, or a conversation of it, asks for."""

    def __init__(
        self,
        guid: str,
        config: PeerConfig,
        services: Services,
        whereabouts: Whereabouts,
        outgoing: Outgoing,
    ) -> None:
        self._guid = guid
        self._config = config
        self._services = services
        self._whereabouts = whereabouts
        self._outgoing = outgoing

    async def open(self, wish: Wish, patience: float, *, wait: bool) -> Session:
        """Open a session; what it means and raises is said at `Peer.connect`."""
        guid, service, select = checked_guid(wish.guid), checked_service(wish.service), wish.select
        if not (select is None or callable(select) or select in ("fastest", "latest")):
            raise ValueError(f"select is 'fastest', 'latest' or a function, not {select!r:.80}")
        config = self._config
        if wish.policy is not None:
            rules = checked_policy(wish.policy)
        else:
            rules = policy_for(config, guid, service)
        mode = checked_mode(wish.mode) if wish.mode is not None else config.mode_for(guid, service)
        terms = Terms(
            guid,
            service,
            mode,
            is_caller=True,
            discloses=mode is not Mode.CENTRAL,
            policy=rules,
            select=select or config.select_for(guid, service),
            fallback=config.fallback,
            standby=config.standby,
            locks=config.locks,
            conversation=wish.conversation,
            metadata=checked_metadata(wish.metadata),
        )
        if guid == self._guid:
            raise IdentityError("guid is this peer's own: each side needs a key of its own")
        self._services.use(service)
        if self._services.blocks(guid):
            raise ValueError(
                "this peer blocks that GUID: block(guid, False), or 'peer block --remove', ends it"
            )
        if mode is not Mode.CENTRAL or rules.needs_interfaces:
            await self._whereabouts.known()
        outgoing = self._outgoing
        return await (
            outgoing.wait_and_open(terms, patience) if wait else outgoing.open(terms, patience)
        )
