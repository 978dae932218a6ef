"""One attempt: where the relay is tried, from which addresses of this host, in which order."""

from collections.abc import Sequence
from types import SimpleNamespace

import pytest

from peers.config import PeerConfig
from peers.control import attempt as module
from peers.control.account import Line
from peers.control.attempt import AttemptEnded, Home, Standing, attempt
from peers.control.nodes import Way
from peers.control.refusal import Phase, StaleRecord
from peers.control.relay_address import RelayAddresses
from peers.dialing import Door
from peers.tasks import Tasks
from peers.transport import RelayAddress
from protocol.errors import Code, RelayUnavailable, RoamRelayError, Superseded, WrongIdentity
from tests.peers.control.scripted import ACCOUNT, Events, Seven, connected
from tests.support.doors import open_door

ONE, TWO = "http://192.0.2.1:8440", "http://192.0.2.2:8440"
UNREACHED = RelayUnavailable("no route")
RESTARTING = RelayUnavailable("soon", code=Code.RESTARTING)
REFUSED = RelayUnavailable("full", code=Code.LIMIT_EXCEEDED)
STRIPPED = RelayUnavailable("no upgrade", code=Code.UPGRADE_REQUIRED)
IMPOSTOR = WrongIdentity("a", "b", "the relay")


class Several(RelayAddresses):
    """A relay at two addresses."""

    async def find(self) -> tuple[RelayAddress, ...]:
        return RelayAddress(ONE), RelayAddress(TWO)


class Nowhere(RelayAddresses):
    async def find(self) -> tuple[RelayAddress, ...]:
        return ()


async def play(
    monkeypatch: pytest.MonkeyPatch,
    errors: Sequence[RoamRelayError],
    *,
    relay: type[RelayAddresses] = Several,
    source: str | None = None,
    others: Sequence[str] = (),
    phase: Phase = Phase.UNPROVEN,
    kept: bool = True,
) -> tuple[list[tuple[str, str | None]], RoamRelayError | None]:
    """Let the tries meet these errors, one each; return what was tried, and what it came to."""
    left, tried = list(errors), []
    _, connection = await connected(Events())

    async def register(home: Home, line: Line, tell: object, way: Way) -> object:
        assert way == Way(line.address)
        tried.append((str(line.address), line.source))
        assert (line.flow, line.expected_relay) == (2, home.config.relay_guid)
        if left:
            raise AttemptEnded(left.pop(0), phase)
        return connection

    monkeypatch.setattr(module, "_register", register)
    monkeypatch.setattr(module, "_sources_towards", lambda host: list(others))
    home = Home(ACCOUNT, relay(ONE), PeerConfig(), Seven(), Tasks(), open_door(), Standing(kept))
    try:
        made = await attempt(home, 2, source, Events())
    except AttemptEnded as ended:
        return tried, ended.error
    assert made is connection
    return tried, None


@pytest.mark.parametrize("first", [UNREACHED, RESTARTING, REFUSED, STRIPPED, IMPOSTOR])
async def test_the_next_address_is_tried_where_the_first_one_does_not_say_no_for_all(
    monkeypatch: pytest.MonkeyPatch, first: RoamRelayError
) -> None:
    assert await play(monkeypatch, [first]) == ([(ONE, None), (TWO, None)], None)


async def test_a_relay_that_is_full_does_not_speak_for_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried = await play(monkeypatch, [REFUSED], phase=Phase.HANDSHAKE)
    assert tried == ([(ONE, None), (TWO, None)], None)


@pytest.mark.parametrize("first", [StaleRecord("late", 9), Superseded("another")])
async def test_what_a_relay_has_to_say_of_this_peer_is_for_all_its_addresses(
    monkeypatch: pytest.MonkeyPatch, first: RoamRelayError
) -> None:
    tried = await play(monkeypatch, [first], phase=Phase.HANDSHAKE, others=["192.0.2.7"])
    assert tried == ([(ONE, None)], first)


async def test_what_is_final_at_first_only_is_asked_of_every_address_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = RelayUnavailable("malformed", code=Code.BAD_MESSAGE)
    tried, _ = await play(monkeypatch, [own, own], phase=Phase.HANDSHAKE, kept=False)
    assert tried == [(ONE, None)]
    tried, _ = await play(monkeypatch, [own, own], phase=Phase.HANDSHAKE)
    assert tried == [(ONE, None), (TWO, None)]


@pytest.mark.parametrize("refused", [REFUSED, RESTARTING])
async def test_a_relay_that_is_busy_is_so_for_every_source(
    monkeypatch: pytest.MonkeyPatch, refused: RoamRelayError
) -> None:
    tried, error = await play(monkeypatch, [refused] * 4, others=["192.0.2.7"])
    assert (tried, error) == ([(ONE, None), (TWO, None)], refused)


@pytest.mark.parametrize("first", [STRIPPED, IMPOSTOR])
async def test_another_network_may_lead_to_the_relay_where_this_one_does_not(
    monkeypatch: pytest.MonkeyPatch, first: RoamRelayError
) -> None:
    tried, error = await play(monkeypatch, [first, first], others=["192.0.2.7"])
    assert error is None
    assert tried == [(ONE, None), (TWO, None), (ONE, "192.0.2.7")]


async def test_who_answers_tells_more_than_who_is_not_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for errors in ([UNREACHED, IMPOSTOR], [IMPOSTOR, UNREACHED]):
        _, error = await play(monkeypatch, errors, source="192.0.2.9")
        assert error is IMPOSTOR


async def test_where_the_routes_lead_nowhere_every_other_source_is_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried, error = await play(monkeypatch, [UNREACHED] * 5, others=["192.0.2.7", "192.0.2.8"])
    assert error is None
    assert tried == [
        (ONE, None),
        (TWO, None),
        (ONE, "192.0.2.7"),
        (TWO, "192.0.2.7"),
        (ONE, "192.0.2.8"),
        (TWO, "192.0.2.8"),
    ]


async def test_where_no_source_leads_there_the_first_error_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    last = [RelayUnavailable(f"attempt {number}") for number in range(4)]
    tried, error = await play(monkeypatch, last, others=["192.0.2.7"])
    assert len(tried) == 4
    assert error is last[1]


async def test_a_source_that_was_asked_for_is_the_only_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried, error = await play(
        monkeypatch, [UNREACHED, UNREACHED], source="192.0.2.9", others=["192.0.2.7"]
    )
    assert (tried, error) == ([(ONE, "192.0.2.9"), (TWO, "192.0.2.9")], UNREACHED)


async def test_a_relay_without_an_address_is_one_that_cannot_be_reached(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried, error = await play(monkeypatch, [], relay=Nowhere)
    assert tried == []
    assert isinstance(error, RelayUnavailable)


def test_sources_are_of_the_relay_s_family_and_lead_somewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def adapters() -> list[SimpleNamespace]:
        hosts = ["127.0.0.1", "192.0.2.7", "169.254.0.1", ("2001:db8::7", 0, 0), ("fe80::1", 0, 2)]
        return [SimpleNamespace(ips=[SimpleNamespace(ip=host) for host in hosts])]

    monkeypatch.setattr(module.ifaddr, "get_adapters", adapters)
    assert module._sources_towards("192.0.2.1") == ["192.0.2.7"]
    assert module._sources_towards("2001:db8::1") == ["2001:db8::7"]
    assert module._sources_towards("relay.example") == ["192.0.2.7", "2001:db8::7"]
    assert module._sources_towards("127.0.0.1") == []


async def test_a_relay_that_is_silent_gives_way_to_the_next_and_the_last_has_all_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    timeouts = []

    async def silent(
        door: Door, address: RelayAddress, *more: object, timeout: float, **options: object
    ) -> None:
        timeouts.append((str(address), timeout))
        raise UNREACHED

    monkeypatch.setattr(Door, "to_relay", silent)
    monkeypatch.setattr(module, "_sources_towards", lambda host: [])
    for connect_timeout, first in ((10.0, 2.5), (1.0, 1.0)):
        config = PeerConfig(connect_timeout=connect_timeout)
        home = Home(ACCOUNT, Several(ONE), config, Seven(), Tasks(), open_door())
        with pytest.raises(AttemptEnded):
            await attempt(home, 0, None, Events())
        assert timeouts == [(ONE, first), (TWO, connect_timeout)]
        timeouts.clear()
