"""The door: who waits, who is refused, what is learned, and that nobody learns from the time."""

import asyncio
import contextlib
import errno
import socket
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from peers.config import CarrierKind, Dial, PeerConfig
from peers.dialing import Ask, DialRefused, Door, Known, Leg, Reason, door
from peers.dialing.door import Passage
from peers.host import Interfaces
from peers.transport import Opened, RawStream, RelayAddress
from protocol.dialing import Outcome
from protocol.endpoint import Endpoint
from protocol.errors import PathFailed, RelayUnavailable, RoamRelayError, WrongIdentity
from tests.support.virtual_time import run

GUID = "a" * 52
THERE = Endpoint("5.5.5.5", 7000)
SEEN = Known(disclosed=frozenset({THERE}))


def make(**config: Any) -> Door:
    settings = PeerConfig(**config)
    return Door(settings, Interfaces(settings), 4000)


def told(port: int = 7000, remote: str = GUID) -> Ask:
    return Ask(remote, Endpoint("5.5.5.5", port), reason=Reason.BETTER_PATH)


async def dial(
    through: Door, ask: Ask, seconds: float, error: RoamRelayError | None, what: Outcome | None
) -> float:
    """Dial; the dial takes so long and fails so, or meets the peer. Return how long that was."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        async with through.passing(ask) as passage:
            await asyncio.sleep(seconds)
            passage.outcome = what or passage.outcome
            if error is not None:
                raise error
    except RoamRelayError as raised:
        if raised is not error and not isinstance(raised, DialRefused):
            raise
    return loop.time() - began


ENDS = [
    (0.0, PathFailed("refused"), Outcome.REFUSED),
    (0.2, PathFailed("no TLS"), None),
    (0.7, WrongIdentity("a", "b", "c"), None),
    (2.9, PathFailed("no answer"), Outcome.SILENT),
]


def test_what_was_told_takes_as_long_whatever_is_there() -> None:
    """Else who has named two addresses would see by the dial of the second whether the first one
    has answered, and how."""

    async def scene() -> None:
        lasted = [await dial(make(), told(), *end) for end in ENDS]
        assert lasted == pytest.approx([3.0] * len(ENDS))
        assert make().patience(told(), 10.0) == 3.0

    run(scene())


def test_so_does_what_is_not_dialed_any_more() -> None:
    async def scene() -> None:
        through = make()
        for _ in range(9):
            assert await dial(through, told(), *ENDS[0]) == pytest.approx(3.0)
        assert through.counts.dialed == {Reason.BETTER_PATH: 2}
        assert through.counts.refused == {"the other side's": 7}

    run(scene())


def test_what_says_nothing_of_anybody_is_said_at_once() -> None:
    async def scene() -> None:
        through = make()
        unsent = PathFailed("no route")
        assert await dial(through, told(), 0.1, unsent, Outcome.NOT_SENT) == pytest.approx(0.1)
        scoped = Ask(GUID, Endpoint("127.0.0.1", 7000))
        assert await dial(through, scoped, *ENDS[0]) == 0.0
        seen = Ask(GUID, THERE, SEEN)
        assert await dial(through, seen, *ENDS[0]) == 0.0
        assert through.patience(seen, 10.0) == 10.0

    run(scene())


def test_where_it_was_met_there_are_neither_pauses_nor_questions() -> None:
    async def scene() -> None:
        through = make(dial=Dial.PROVEN)
        assert await dial(through, Ask(GUID, THERE, SEEN), 0.1, None, None) == pytest.approx(0.1)
        lasted = await asyncio.gather(*(dial(through, told(), 0.1, None, None) for _ in range(50)))
        assert lasted == pytest.approx([0.1] * 50)
        assert await dial(through, told(), *ENDS[0]) == 0.0
        assert through.patience(told(), 10.0) == 10.0

    run(scene())


def test_a_server_that_a_zone_names_has_a_budget_and_is_left_alone_where_it_refuses() -> None:
    there = Endpoint("5.5.5.5", 53)

    def ask(through: Door, error: OSError | None, server: Endpoint = there) -> str:
        try:
            with through.to_server(server, "a.test", ()) as answered:
                if error is not None:
                    raise error
                answered()
        except DialRefused as refused:
            return refused.reason
        except OSError:
            pass
        return "asked"

    async def scene() -> None:
        through = make()
        assert {ask(through, None) for _ in range(100)} == {"asked"}
        assert through.counts.dialed == {Reason.NAME_SERVER: 100}
        through = make()
        assert [ask(through, TimeoutError()) for _ in range(100)].count("asked") == 32
        through = make()
        refused = ConnectionRefusedError(errno.ECONNREFUSED, "")
        assert [ask(through, refused) for _ in range(3)][:2] == ["asked"] * 2
        assert "left alone" in ask(through, refused)
        assert "this host itself" in ask(through, None, Endpoint("127.0.0.1", 53))
        assert through.counts.refused == {"a zone's, of its servers": 3}

    run(scene())


class Relay:
    """Says after three seconds, as a relay does, whether it has met the key."""

    def __init__(self, met: bool) -> None:
        self.met = met
        self.asked = 0

    async def has_met(self) -> bool:
        self.asked += 1
        await asyncio.sleep(0.1 if self.met else 3.0)
        return self.met


def odd(relay: Relay, port: int = 443, remote: str = GUID) -> Ask:
    return Ask(remote, Endpoint("5.5.5.5", port), Known(may_ask=True), witness=relay)


def test_what_is_odd_is_dialed_once_the_relay_has_met_the_key_there() -> None:
    async def scene() -> None:
        through, relay = make(), Relay(met=True)
        assert through.doubts(odd(relay))
        assert not through.doubts(told())
        assert await dial(through, odd(relay), 0.2, None, None) == pytest.approx(0.3)
        assert not through.doubts(odd(relay)), "it was met"
        assert await dial(through, odd(relay), 0.2, None, None) == pytest.approx(0.2)
        assert relay.asked == 1
        assert through.counts.asked == {"met": 1}
        # It is the relay's word then: what is there is given more than what is told.
        assert await dial(through, odd(relay, 80), 0.2, *ENDS[0][1:]) == pytest.approx(0.3)

    run(scene())


def test_what_it_has_not_met_is_not_dialed_and_asked_about_a_few_times() -> None:
    async def scene() -> None:
        through, relay = make(), Relay(met=False)
        lasted = [await dial(through, odd(relay), *ENDS[0]) for _ in range(5)]
        assert lasted == pytest.approx([3.0, 3.0, 0.0, 0.0, 0.0])
        assert through.counts.dialed == {}
        # A stranger that names many makes this peer ask a few times; and many strangers, too.
        for port in range(1, 100):
            await dial(through, odd(relay, port), *ENDS[0])
        assert relay.asked <= 8
        for number in range(1, 100):
            await dial(through, odd(relay, number, f"{number:052}"), *ENDS[0])
        assert relay.asked <= 8 + 3, "to one address"
        assert through.counts.asked == {"not met": relay.asked}

    run(scene())


def test_one_question_of_an_endpoint_at_a_time() -> None:
    async def scene() -> None:
        through, relay = make(), Relay(met=True)
        await asyncio.gather(*(dial(through, odd(relay), 0.1, None, None) for _ in range(20)))
        assert relay.asked == 1
        waiting = asyncio.create_task(dial(through, odd(Relay(met=False), 80), *ENDS[0]))
        await asyncio.sleep(0.1)
        waiting.cancel()
        await asyncio.wait({waiting})
        assert await dial(through, odd(relay, 80), 0.1, None, None) == pytest.approx(0.2)

    run(scene())


def test_one_dial_of_an_endpoint_at_a_time_and_the_others_wait_for_its_end() -> None:
    """Fifty sessions of one peer that has moved are one dial, and then no question any more."""

    async def scene() -> None:
        through = make()
        lasted = await asyncio.gather(*(dial(through, told(), 0.1, None, None) for _ in range(50)))
        assert lasted == pytest.approx([0.1] + [0.2] * 49)
        assert through.counts.refused == {}

    run(scene())


def test_who_waits_goes_on_when_the_one_that_dials_is_cancelled() -> None:
    async def scene() -> None:
        through = make()
        first = asyncio.create_task(dial(through, told(), 60.0, None, None))
        await asyncio.sleep(0)
        second = asyncio.create_task(dial(through, told(), 0.1, None, None))
        await asyncio.sleep(1.0)
        first.cancel()
        assert await second == pytest.approx(1.1)

    run(scene())


never = contextlib.nullcontext(False)


def test_a_dial_is_made_again_at_the_cost_of_another_one() -> None:
    async def scene() -> None:
        through = make()
        async with through.passing(told()) as passage:
            with passage.again() as first:
                assert first
            with passage.again() as second:
                assert not second, "an endpoint that was told is dialed twice a minute"
        assert through.counts.dialed == {Reason.BETTER_PATH: 2}
        assert through.counts.refused == {}
        async with through.passing(told()) as passage:
            for _ in range(9):
                with passage.again() as again:
                    assert again, "where the key was met, it costs nobody anything"

    run(scene())


def test_where_all_are_slow_few_dials_are_made_again() -> None:
    async def scene() -> None:
        through = make()
        await dial(through, told(), 0.1, None, None)
        with contextlib.ExitStack() as stack:
            passage = await asyncio.wait_for(_entered(through), 1)
            may = [stack.enter_context(passage.again()) for _ in range(6)]
            assert may == [True] * 4 + [False] * 2
        with passage.again() as again:
            assert again
        with pytest.raises(KeyError), passage.again():
            raise KeyError
        with passage.again() as again:
            assert again, "it is given back, whatever happens"

    run(scene())


async def _entered(through: Door) -> Passage:
    async with through.passing(told()) as passage:
        return passage


async def test_where_nobody_listens_it_was_refused() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        passage = Passage(Ask(GUID, Endpoint("127.0.0.1", taken.getsockname()[1])), lambda: never)
        with pytest.raises(ConnectionRefusedError):
            await passage.connect(None, None)
        assert passage.outcome is Outcome.REFUSED


async def test_from_an_address_that_this_host_has_not_nothing_leaves() -> None:
    passage = Passage(Ask(GUID, Endpoint("127.0.0.1", 9)), lambda: never)
    with pytest.raises(OSError, match="assign"):
        await passage.connect("192.0.2.1", None)
    assert passage.outcome is Outcome.NOT_SENT


async def test_the_relay_and_the_proxy_that_were_dialed_are_nobodys_endpoints(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def opens(relay: RelayAddress, *more: object, **options: object) -> Opened:
        return Opened(cast(Any, SimpleNamespace(remote="6.6.6.6:3000", local="9.9.9.9:1")), "")

    monkeypatch.setattr(door, "open_upgraded", opens)
    through = make(relay="http://5.5.5.5:7000")
    leg = Leg("/v1/control", Reason.CONTROL, CarrierKind.RAW)
    relay = RelayAddress("http://5.5.5.5:7000")
    await through.to_relay(relay, leg, spawn=lambda *_: None, timeout=1.0)
    for where, what in ((THERE, "own relay"), (Endpoint("6.6.6.6", 3000), "own proxy")):
        with pytest.raises(DialRefused, match=what):
            async with through.passing(Ask(GUID, where, Known(frozenset({where})))):
                pass
    assert through.counts.dialed == {Reason.CONTROL: 1}


async def test_a_domain_cannot_name_a_relay_where_nobody_can_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    through = make(relay="dns:example.org")
    leg = Leg("/v1/control", Reason.CONTROL, CarrierKind.RAW)
    for host in ("224.0.0.1", "255.255.255.255", "[ff02::1]", "0.0.0.0"):
        with pytest.raises(RelayUnavailable, match="no relay can be"):
            await through.to_relay(
                RelayAddress(f"http://{host}:80"), leg, spawn=lambda *_: None, timeout=1.0
            )
    assert through.counts.refused == {Reason.CONTROL: 4}


async def test_a_relay_is_dialed_from_the_listening_port_unless_it_may_have_the_last_one_still(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ports: list[int | None] = []
    stream = RawStream()

    async def opens(relay: RelayAddress, *more: object, **options: Any) -> Opened:
        ports.append(options["port"])
        stream.local, stream.remote = f"9.9.9.9:{options['port'] or 1}", "5.5.5.5:7000"
        return Opened(stream, "")

    monkeypatch.setattr(door, "open_upgraded", opens)
    through, relay = make(relay="http://5.5.5.5:7000"), RelayAddress("http://5.5.5.5:7000")

    async def dialed(reason: Reason) -> None:
        leg = Leg("/v1/control", reason, CarrierKind.RAW)
        await through.to_relay(relay, leg, spawn=lambda *_: None, timeout=1.0)

    await dialed(Reason.CONTROL)
    await dialed(Reason.LEG)
    stream.connection_lost(ConnectionResetError())
    await dialed(Reason.CONTROL)
    stream.connection_lost(TimeoutError())
    await dialed(Reason.CONTROL)
    await dialed(Reason.CONTROL)
    assert ports == [4000, None, 4000, None, 4000]


# -- meetings -------------------------------------------------------------------------------------


def test_a_meeting_is_a_few_tries_from_the_listening_port_and_has_a_budget_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried: list[tuple[float, str, int]] = []

    async def refuses(address: object, source: str, port: int) -> socket.socket:
        tried.append((asyncio.get_running_loop().time(), source, port))
        raise ConnectionRefusedError(errno.ECONNREFUSED, "refused")

    monkeypatch.setattr(door, "dial_from", refuses)

    async def scene() -> None:
        through, loop = make(), asyncio.get_running_loop()
        ask = Ask(GUID, THERE, replace(SEEN, may_ask=True), Reason.MEETING)
        with pytest.raises(PathFailed, match="nobody came"):
            await through.meet(ask, "10.0.0.1")
        assert [when for when, *_ in tried] == pytest.approx([0.0, 0.2, 0.6, 1.4])
        assert {(source, port) for _, source, port in tried} == {("10.0.0.1", 4000)}
        assert loop.time() == pytest.approx(3.0)
        assert through.counts.dialed == {Reason.MEETING: 1}
        for _ in range(20):
            with pytest.raises(PathFailed):
                await through.meet(ask, "10.0.0.1")
        assert len(tried) < 4 * 10
        assert through.counts.refused == {"the relay's": 21 - through.counts.dialed["meeting"]}
        # What comes to nothing there says nothing of what is dialed otherwise.
        assert await dial(through, Ask(GUID, THERE, SEEN), 0.0, None, Outcome.MET) == 0.0

    run(scene())


@pytest.mark.parametrize("host", ["127.0.0.1", "192.168.7.7", "5.5.5.5"])
def test_nobody_meets_at_a_well_known_port_or_in_a_network_that_nothing_speaks_for(
    monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setattr(door, "dial_from", None)

    async def scene() -> None:
        at = Endpoint(host, 22)
        ask = Ask(GUID, at, Known(frozenset({at}), may_ask=True), Reason.MEETING)
        with pytest.raises(DialRefused):
            await make().meet(ask, "10.0.0.1")

    run(scene())
