"""Who says where the other side is: whom to ask, in what order, and whose error is told."""

import os
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peers import DdnsConfig, Mode, PeerConfig
from peers.control import Answered
from peers.location import Found
from peers.roaming.lookup import Directory, Lookup, first_that_knows
from protocol.endpoint import Endpoint
from protocol.errors import (
    Code,
    LimitExceeded,
    NameServerUnavailable,
    PathFailed,
    PeerOffline,
    Refused,
    RelayUnavailable,
    RoamRelayError,
    UnknownPeer,
    UnknownService,
)
from protocol.messages import PeerState, ServiceRequestTo, ServiceResponse
from tests.peers.roaming.fakes import CALLER, THERE, make_route, signed
from tests.support.virtual_time import run

RELAY, DNS = Directory.RELAY, Directory.DNS
ZONE = DdnsConfig(zone="example.org")
URL = "http://192.0.2.99:1"


class Registration:
    """A relay that says what the test wants."""

    def __init__(self) -> None:
        self.asked: list[tuple[ServiceRequestTo, float]] = []
        self.says: ServiceResponse | RoamRelayError = ServiceResponse(0)

    async def ask(self, request: ServiceRequestTo, patience: float) -> Answered:
        self.asked.append((request, patience))
        if isinstance(self.says, RoamRelayError):
            raise self.says
        return Answered(cast(Any, None), self.says)


class Names:
    """A zone that says what the test wants."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, bool]] = []
        self.distrusted: list[tuple[str, str]] = []
        self.says: Found | RoamRelayError = Found((), (), 30.0)

    async def find(self, guid: str, service: str, *, fresh: bool = False) -> Found:
        self.asked.append((guid, service, fresh))
        if isinstance(self.says, RoamRelayError):
            raise self.says
        return self.says

    def distrust(self, guid: str, service: str) -> None:
        self.distrusted.append((guid, service))


class Scene:
    def __init__(self, config: PeerConfig, *, names: bool = True) -> None:
        self.registration = Registration()
        self.names = Names()
        self.lookup = Lookup(
            config, cast(Any, self.registration), cast(Any, self.names) if names else None
        )


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize(
    ("config", "names", "p2p", "others"),
    [
        (PeerConfig(relay=URL), False, (RELAY,), (RELAY,)),
        (PeerConfig(relay=URL, lookup="dns"), False, (RELAY,), (RELAY,)),
        (PeerConfig(relay=URL, ddns=ZONE), True, (RELAY, DNS), (RELAY,)),
        (PeerConfig(relay=URL, ddns=ZONE, lookup="dns"), True, (DNS, RELAY), (RELAY,)),
        (PeerConfig(ddns=ZONE), True, (DNS,), (RELAY,)),
        (PeerConfig(ddns=ZONE, lookup="dns"), True, (DNS,), (RELAY,)),
    ],
)
def test_who_is_asked_and_in_what_order(
    config: PeerConfig,
    names: bool,
    p2p: tuple[Directory, ...],
    others: tuple[Directory, ...],
    mode: Mode,
) -> None:
    directories = Scene(config, names=names).lookup.directories(mode)
    assert directories == (p2p if mode is Mode.P2P else others)


SILENT = [RelayUnavailable("r"), NameServerUnavailable("n")]
TELLING = [UnknownPeer("u"), UnknownService("s"), PeerOffline("o"), PathFailed("p")]
TELLING += [Refused("hidden", code=Code.NO_ENDPOINT)]
FINAL = [Refused("no"), LimitExceeded("l"), RoamRelayError("gone", code=Code.SESSION_UNKNOWN)]


@given(says=st.lists(st.sampled_from([*SILENT, *TELLING, *FINAL, "found"]), min_size=1, max_size=4))
def test_the_first_that_knows_is_believed_and_else_the_first_that_could_be_asked_is_told(
    says: list[RoamRelayError | str],
) -> None:
    """What the other side itself has said is told at once: asking elsewhere would not change it."""
    asked: list[int] = []

    async def ask(directory: Directory) -> str:
        number = len(asked)
        asked.append(number)
        said = says[number]
        if isinstance(said, RoamRelayError):
            raise said
        return said

    ends = [number for number, said in enumerate(says) if said == "found" or said in FINAL]
    last = ends[0] if ends else len(says) - 1
    work = first_that_knows([RELAY] * len(says), ask)
    if ends and says[last] == "found":
        assert run(work) == "found"
    else:
        with pytest.raises(RoamRelayError) as told:
            run(work)
        telling = [said for said in says if said in TELLING]
        expected = says[last] if ends else (telling or says)[0]
        assert told.value is expected
    assert asked == list(range(last + 1))


async def test_a_location_is_what_the_first_says_that_knows() -> None:
    scene = Scene(PeerConfig(relay=URL, ddns=ZONE))
    scene.registration.says = UnknownPeer("never heard of it")
    scene.names.says = Found(signed("192.0.2.1"), (), 30.0)
    found = await scene.lookup.locate(THERE.guid, "chat", 5.0)
    assert (found.source, [one.host for one in found.entries]) == ("dns", ["192.0.2.1"])
    scene.registration.says = ServiceResponse(
        0, state=PeerState.ONLINE, entries=signed("192.0.2.2")
    )
    found = await scene.lookup.locate(THERE.guid, "chat", 5.0)
    assert (found.source, [one.host for one in found.entries]) == ("relay", ["192.0.2.2"])
    assert len(scene.names.asked) == 1


@pytest.mark.parametrize(
    ("config", "timeout", "seconds", "patience"),
    [
        (PeerConfig(relay=URL), 5.0, 5.0, 5.0),
        (PeerConfig(relay=URL), 1000.0, 60.0, 60.0),
        # Where the DNS can be asked too, a relay that is not there is not waited for.
        (PeerConfig(relay=URL, ddns=ZONE), 5.0, 5.0, 2.0),
        (PeerConfig(relay=URL, ddns=ZONE), 0.5, 0.5, 0.5),
    ],
)
async def test_how_long_a_relay_is_waited_for(
    config: PeerConfig, timeout: float, seconds: float, patience: float
) -> None:
    scene = Scene(config)
    route = make_route()
    entries = signed("192.0.2.1")
    await scene.lookup.ask_relay(route.session, entries, timeout)
    await scene.lookup.locate(THERE.guid, "chat", timeout)
    (request, waited), (other, waited_too) = scene.registration.asked
    assert (request.timeout, waited) == (other.timeout, waited_too) == (seconds, patience)
    told = (request.guid, request.service, request.session, request.entries, request.resume)
    assert told == (CALLER.remote, "chat", route.session.id, entries, False)
    assert (other.mode, other.entries, other.resume) == (Mode.P2P, (), False)
    assert other.session != request.session


async def test_without_a_zone_nobody_is_asked_by_name() -> None:
    lookup = Scene(PeerConfig(relay=URL), names=False).lookup
    with pytest.raises(NameServerUnavailable, match="no zone"):
        await lookup.ask_names(THERE.guid, "chat")
    lookup.distrust(THERE.guid, "chat")


async def test_what_is_asked_of_the_zone_goes_there_as_it_is() -> None:
    scene = Scene(PeerConfig(ddns=ZONE))
    scene.names.says = Found((), (Endpoint("192.0.2.1", 9),), 30.0)
    guid = os.urandom(4).hex()
    assert (await scene.lookup.ask_names(guid, "chat", fresh=True)).known
    assert scene.names.asked == [(guid, "chat", True)]
    scene.lookup.distrust(guid, "chat")
    assert scene.names.distrusted == [(guid, "chat")]
