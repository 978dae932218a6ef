"""This host's ways into the network: which are told, and which are dialed from."""

from peers import PeerConfig
from peers.host.address import LocalAddress
from peers.host.interfaces import Interfaces


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
