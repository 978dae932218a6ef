"""What the options before the subcommand say, and the peers that a command makes by them."""

import msgspec

from peers import Peer
from peers.cli.control import controlled
from peers.cli.invocation import Invocation, Work
from peers.config import Identity, PeerConfig
from protocol.errors import RelayUnavailable

__all__ = ["Settings"]


class Settings(msgspec.Struct, frozen=True):
    """What the options before the subcommand say."""

    config: PeerConfig
    key: str
    verbose: bool
    control: str | None = None
    """Where others of this user may ask how the command's peer is."""
    made: list[Peer] = []
    """The peers that were made for this command."""

    def identity(self) -> Identity:
        return Identity.load_or_create(self.key)

    def with_config(self, config: PeerConfig) -> "Settings":
        return msgspec.structs.replace(self, config=config)

    def peer(self) -> Peer:
        self._check()
        return self._noted(Peer(self.identity(), config=self.config))

    def waiting_peer(self) -> Peer:
        """Return a peer that waits for its network and its relay: it may start before them."""
        self._check()
        waits = msgspec.structs.replace(self.config, wait_for_relay=True)
        return self._noted(Peer(self.identity(), config=waits))

    def stranger(self) -> Peer:
        """Return a peer with a key of its own for the moment."""
        self._check()
        return Peer(Identity.generate(), config=self.config)

    def invocation(self, work: Work, as_json: bool = False) -> Invocation:
        if self.control is not None:
            work = controlled(work, self.control, self.made)
        return Invocation(work, as_json, self.verbose)

    def _check(self) -> None:
        """Say in the words of a command what a peer says in those of the library."""
        if self.config.relay is None and self.config.ddns is None:
            raise RelayUnavailable(
                "no relay is named: give --relay http://HOST:PORT before the subcommand, PEER_RELAY"
                " or 'relay' in the file of --config ('relay serve' starts one); or --zone"
            )

    def _noted(self, peer: Peer) -> Peer:
        self.made.append(peer)
        return peer
