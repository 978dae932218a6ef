"""What a peer tells of itself: provenance and phase of its addresses, and services of others."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from peers import Identity, Mode, Peer, PeerConfig, Phase, Provenance, Refused
from peers.choice import clearly_better
from peers.host.address import LocalAddress
from peers.host.interfaces import Interfaces
from peers.location.told import Hosts, OwnLocation
from peers.session.session import Session
from protocol.endpoint import read_entry
from protocol.errors import ProtocolViolation
from relay.server import RelayServer
from tests.support.addresses import Addresses, absent_addresses
from tests.support.processes import fact, peer, relay, run_peer
from tests.support.rooms import rooms


def own(*configured: str) -> OwnLocation:
    return OwnLocation(Identity.generate(), 4000, configured=configured, lifetime=60)


def told(location: OwnLocation) -> list[tuple[str, Provenance, Phase]]:
    entries = [read_entry(signed) for signed in location.entries("chat")]
    return [(entry.host, entry.provenance, entry.phase) for entry in entries]


def test_addresses_are_told_with_where_they_are_from_and_what_they_are_for() -> None:
    location = own("203.0.113.1")
    assert location.update(
        Hosts(
            ("192.0.2.1", "192.0.2.2", "192.0.2.3"),
            live=frozenset({"192.0.2.1"}),
            leaving=frozenset({"192.0.2.3"}),
            observed=("198.51.100.1", "192.0.2.1"),
        )
    )
    assert told(location) == [
        ("192.0.2.1", Provenance.INTERFACE, Phase.PREFERRED),
        ("192.0.2.2", Provenance.INTERFACE, Phase.NEW),
        ("192.0.2.3", Provenance.INTERFACE, Phase.LEAVING),
        ("198.51.100.1", Provenance.OBSERVED, Phase.PREFERRED),
        ("203.0.113.1", Provenance.CONFIGURED, Phase.PREFERRED),
    ]


def test_only_a_difference_is_one() -> None:
    location = own()
    one, two = "192.0.2.1", "192.0.2.2"
    live = frozenset({one})
    assert location.update(Hosts((one,), live))
    assert not location.update(Hosts((one, one), live))
    assert location.update(Hosts((one,), live, leaving=live))
    assert location.update(Hosts((two, one), live))
    assert location.update(Hosts((one, two), live)), "order counts"


def test_an_address_that_has_just_worked_goes_first() -> None:
    location = own()
    location.update(Hosts(("192.0.2.1", "192.0.2.2"), live=frozenset({"192.0.2.1"})))
    location.used("192.0.2.2")
    assert [(host, phase) for host, _, phase in told(location)] == [
        ("192.0.2.2", Phase.PREFERRED),
        ("192.0.2.1", Phase.PREFERRED),
    ]


def test_what_the_system_calls_deprecated_is_leaving() -> None:
    network = Interfaces(PeerConfig())
    old = LocalAddress("2001:db8::1", "eth0", 2, 6, 64, deprecated=True)
    new = LocalAddress("2001:db8::2", "eth0", 2, 6, 64)
    network.update([old, new])
    assert network.leaving == {old.host}
    assert network.interface_of(new.host) == "eth0"
    assert network.dial_sources(6, named=True) == (new.host, old.host)
    network.mark_leaving(new.host, True)
    assert network.leaving == {old.host, new.host}
    network.mark_leaving(new.host, False)
    network.mark_leaving(new.host, True)
    network.update([old])
    network.update([old, new])
    assert network.leaving == {old.host}, "an address that came back is a new one"


async def test_nobody_begins_anew_where_an_address_is_leaving(relay: RelayServer) -> None:
    """The draft's Figure 1: CN1 stays on IP1, CN3 uses IP2."""
    hosts = ("127.0.61.1", "127.0.61.2")
    with absent_addresses():
        addresses = Addresses(hosts)
        config = PeerConfig(relay=relay.url, sources=hosts)
        async with (
            Peer(Identity.generate(), config=config, addresses=addresses) as node,
            Peer(Identity.generate(), relay.url) as cn1,
            Peer(Identity.generate(), relay.url) as cn3,
        ):
            listener = node.listen("chat")
            await node.published()
            old = await cn1.connect(node.guid, "chat", mode="combined")
            callee = await asyncio.wait_for(anext(listener), 5)
            assert _host(old) == hosts[0]
            addresses.set(*hosts)
            node.leaving(hosts[0])
            await node.published()
            async with asyncio.timeout(10):
                while node.places != {
                    hosts[0]: (Provenance.INTERFACE, Phase.LEAVING),
                    hosts[1]: (Provenance.INTERFACE, Phase.PREFERRED),
                }:
                    await asyncio.sleep(0.01)
            await node.published()
            for mode in (Mode.P2P, Mode.COMBINED):
                new = await cn3.connect(node.guid, "chat", mode=mode)
                assert _host(new) == hosts[1]
                new.abort()
            assert _host(old) == hosts[0], "the old session is not disturbed"
            await old.send(b"still here")
            assert await callee.receive() == b"still here"
            with pytest.raises(ProtocolViolation):
                node.leaving("no address")
            node.leaving(hosts[0], False)
            assert node.places[hosts[0]][1] is Phase.PREFERRED
            await old.close()


def _host(session: Session) -> str:
    assert session.path is not None
    return session.path.remote.rpartition(":")[0]


async def test_another_program_s_service_is_found_and_not_opened(alice: Peer, bob: Peer) -> None:
    async with alice.expose("ssh", 22) as listener:
        await alice.published()
        found = await bob.locate(alice.guid, "ssh")
        assert {entry.port for entry in found.entries} == {22}
        with pytest.raises(Refused, match="another program's"):
            await bob.connect(alice.guid, "ssh", mode="central")
        with pytest.raises(ValueError, match="TCP port"):
            alice.expose("http", 0)
        with pytest.raises(ValueError, match="already"):
            alice.listen("ssh")
    assert listener.port == 22


async def test_a_survey_tries_every_endpoint_once(relay: RelayServer, bob: Peer) -> None:
    config = PeerConfig(relay=relay.url, advertise=("127.0.62.1",))
    async with Peer(Identity.generate(), config=config) as alice:
        listener = alice.listen("chat")
        await alice.published()
        async with asyncio.timeout(10):
            while len((found := await bob.locate(alice.guid, "chat")).entries) < 2:
                await asyncio.sleep(0.02)
        surveyed = await bob.survey(found)
        first, second = (one.round_trip for one in surveyed)
        assert first is not None
        assert second is not None
        # By what was measured: both are this very host, and a busy one may take long for either.
        assert surveyed[1].chosen is clearly_better(second, first)
        assert surveyed[0].chosen is not surveyed[1].chosen
        assert listener._waiting.empty(), "nothing is said to the application"
        rooms(alice).direct.close()
        surveyed = await bob.survey(found)
        assert not any(one.chosen for one in surveyed)
        assert all("127.0." in one.reason for one in surveyed)


def test_locate_and_expose_as_commands(tmp_path: Path) -> None:
    with relay(tmp_path) as (url, _):
        base = ("--relay", url, "--key", str(tmp_path / "b.key"))
        with peer(
            "--relay", url, "--key", str(tmp_path / "a.key"), "listen", "chat", "--json"
        ) as a:
            guid = fact(a)["guid"]
            text = run_peer(*base, "locate", guid, "chat").stdout
            assert "chosen" in text
            assert "least delay" in text
        with peer(
            "--relay",
            url,
            "--key",
            str(tmp_path / "c.key"),
            "expose",
            "ssh",
            "--port",
            "22",
            "--json",
        ) as exposing:
            guid = fact(exposing)["guid"]
            done = run_peer(*base, "locate", guid, "ssh", "--json")
            assert '"port":22' in done.stdout
        mine = run_peer(*base, "locate", "--mine")
        assert "127.0.0.1" in mine.stdout
        assert "proven" in mine.stdout
        assert run_peer(*base, "locate").returncode == 2
        wrong = run_peer(*base, "connect", guid, "chat", "--policy", "only dirct")
        assert wrong.returncode == 2
        assert "'dirct' at position 6" in wrong.stderr
        assert "Traceback" not in wrong.stderr


def test_a_config_names_the_word_of_a_policy(tmp_path: Path) -> None:
    config = tmp_path / "peer.toml"
    config.write_text('[policies]\nchat = "only dirct"\n')
    done = subprocess.run(
        [sys.executable, "-m", "peers", "--config", str(config), "id"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert "peer.toml" in done.stderr
    assert "'dirct'" in done.stderr


def test_flows_are_one_for_each_way_into_the_network() -> None:
    network = Interfaces(PeerConfig())
    wifi = LocalAddress("192.0.2.1", "wlan0", 2, 4, 24)
    cellular = LocalAddress("198.51.100.1", "wwan0", 3, 4, 24)
    six = LocalAddress("2001:db8::1", "wlan0", 2, 6, 64)
    network.update([wifi, cellular, six])
    assert network.flow_sources(4, default=wifi.host, spread=True) == [None, cellular.host]
    assert network.flow_sources(4, default=cellular.host, spread=True) == [None, wifi.host]
    assert network.flow_sources(4, default=None, spread=False) == [None], "nothing is known yet"
    spread = network.flow_sources(4, default=None, spread=True)
    assert set(spread) == {None, wifi.host, cellular.host}, "the routes lead nowhere just now"
    assert network.flow_sources(4, default="127.0.0.1", spread=True) == [None], "a relay right here"
