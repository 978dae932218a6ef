"""What follows when somebody comes, moves and goes."""

from protocol.messages import LocationRecord, PeerEvent, PeerState, ServiceRecord
from relay.limits import Bounds, Shares
from relay.presence import Presence, Registry, Watches
from tests.relay.fakes import FakeAttachment

ROOM = Bounds.of(1000)


class Proofs:
    """Keeps whom it is asked to consider, and who has gone."""

    def __init__(self) -> None:
        self.considered: list[str] = []
        self.gone: list[object] = []

    def consider(self, guid: str) -> None:
        self.considered.append(guid)

    def lost(self, asker: object) -> None:
        self.gone.append(asker)


def test_watchers_are_told_and_endpoints_considered() -> None:
    registry = Registry(grace=30.0, remember=100.0, max_offline=10)
    watches, proofs = Watches(registry, grace=30.0), Proofs()
    presence = Presence(registry, watches, proofs, Shares(ROOM))  # type: ignore[arg-type]
    bob, alice = FakeAttachment(), FakeAttachment()
    services = (ServiceRecord("chat"),)
    watches.watch(alice, bob.guid, 0.0)
    presence.register(bob, LocationRecord(1, services), 0.0)
    watches.tell(0.1)
    presence.update(bob, LocationRecord(2, services), 1.0)
    watches.tell(1.5)
    presence.leave(bob, 2.0, closed=True)
    watches.tell(3.0)
    told = [(event.state, event.seq) for event in alice.got if isinstance(event, PeerEvent)]
    assert told == [
        (PeerState.OFFLINE, 0),
        (PeerState.ONLINE, 1),
        (PeerState.ONLINE, 2),
        (PeerState.OFFLINE, 2),
    ]
    assert proofs.considered == [bob.guid] * 2


def test_who_goes_watches_nobody_and_asks_nothing() -> None:
    registry = Registry(grace=30.0, remember=100.0, max_offline=10)
    watches, proofs = Watches(registry, grace=30.0), Proofs()
    presence = Presence(registry, watches, proofs, Shares(ROOM))  # type: ignore[arg-type]
    bob = FakeAttachment()
    presence.register(bob, LocationRecord(1, ()), 0.0)
    presence.watches.watch(bob, FakeAttachment().guid, 0.0)
    presence.leave(bob, 1.0, closed=False)
    assert len(watches) == 0
    assert proofs.gone == [bob]
