"""One port at every address that a relay is given, of both families; or one clear error."""

import asyncio
import errno
import os
import socket
import urllib.request
from pathlib import Path
from typing import Any

import dns.asyncquery
import dns.message
import pytest

from protocol.endpoint import Endpoint
from relay import listening as module
from relay.config import ConfigError, DnsConfig, RelayConfig, load
from relay.listening import bind, serves
from relay.server import RelayServer
from tests.relay.client import registered
from tests.support import processes

HERE, SIX = "127.0.0.1", "::1"


def names(sockets: tuple[socket.socket, ...]) -> list[tuple[str, int]]:
    return [one.getsockname()[:2] for one in sockets]


async def is_served(host: str, port: int) -> bool:
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as one:
        one.setblocking(False)
        try:
            await loop.sock_connect(one, (host, port))
        except ConnectionRefusedError:
            return False
        return True


async def test_both_families_and_datagrams_are_on_one_port() -> None:
    bound = await bind(["::"], 0, udp=True)
    try:
        assert names(bound.tcp) == names(bound.udp) == [("::", bound.port), ("0.0.0.0", bound.port)]
    finally:
        bound.close()
    assert [one.fileno() for one in (*bound.tcp, *bound.udp)] == [-1] * 4


async def test_a_host_that_is_given_twice_is_taken_once() -> None:
    bound = await bind([HERE, "localhost", "127.0.0.2", HERE], 0)
    assert {(HERE, bound.port), ("127.0.0.2", bound.port)} <= set(names(bound.tcp))
    assert len(set(names(bound.tcp))) == len(bound.tcp)
    with pytest.raises(ConfigError, match="another program listens there"):
        await bind([HERE], bound.port)
    bound.close()
    bound = await bind([HERE, SIX, "::", "0.0.0.0"], 0)
    assert names(bound.tcp) == [("::", bound.port), ("0.0.0.0", bound.port)], "all are in these"
    bound.close()


@pytest.mark.parametrize(
    ("host", "step"),
    [
        ("192.0.2.1", "192.0.2.1 port 8440: this machine has no such address now.*start the relay"),
        ("2001:db8::1", "2001:db8::1 port 8440: this machine has no such address now"),
        ("nowhere.invalid", "nowhere.invalid: "),
    ],
)
async def test_an_address_that_this_machine_has_not_is_one_error_with_the_next_step(
    host: str, step: str
) -> None:
    before = os.listdir("/proc/self/fd")
    with pytest.raises(ConfigError, match=f"cannot listen on {step}"):
        await bind([HERE, host], 8440, udp=True)
    assert os.listdir("/proc/self/fd") == before, "none is left open"


async def test_any_port_is_one_that_is_free_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    made, tried = module._socket, []

    def taken_twice(
        family: Any, host: str, port: int, kind: socket.SocketKind, use: Any
    ) -> socket.socket:
        if kind is socket.SOCK_DGRAM:
            tried.append(port)
            if len(tried) < 3:
                raise OSError(errno.EADDRINUSE, "Address already in use")
        return made(family, host, port, kind, use)

    monkeypatch.setattr(module, "_socket", taken_twice)
    bound = await bind([HERE], 0, udp=True)
    assert (len(tried), bound.port) == (3, tried[-1])
    bound.close()


@pytest.mark.parametrize(
    ("missing", "left"), [(socket.AF_INET6, "0.0.0.0"), (socket.AF_INET, "::")], ids=str
)
async def test_a_system_without_one_family_serves_the_other(
    monkeypatch: pytest.MonkeyPatch, missing: socket.AddressFamily, left: str
) -> None:
    made = module._socket

    def lacks(family: Any, *more: Any) -> socket.socket:
        if family == missing:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return made(family, *more)

    monkeypatch.setattr(module, "_socket", lacks)
    bound = await bind(["::"], 0)
    assert names(bound.tcp) == [(left, bound.port)]
    bound.close()
    alone = SIX if missing == socket.AF_INET6 else HERE
    with pytest.raises(ConfigError, match=f"cannot listen on {alone}"):
        await bind([alone], 0)


# -- a relay --------------------------------------------------------------------------------------


async def test_a_relay_on_all_addresses_serves_both_families_and_so_does_its_zone() -> None:
    config = RelayConfig(host="::", port=0, dns=DnsConfig(zone="a.example", port=0))
    async with RelayServer(config) as server:
        port = server.url.rpartition(":")[2]
        assert server.urls == (f"http://[::]:{port}",)
        for host in (HERE, f"[{SIX}]"):
            async with registered(f"http://{host}:{port}", "chat"):
                observed = {connection.observed_host for connection in server.connections}
                assert observed == {host.strip("[]")}, "an IPv4 address is one"
        assert server.dns is not None
        question = dns.message.make_query("a.example", "SOA")
        for host in (HERE, SIX):
            for way in (dns.asyncquery.udp, dns.asyncquery.tcp):
                assert (await way(question, host, 10, server.dns.port)).answer  # type: ignore[operator]
    for host in (HERE, SIX):
        assert not await is_served(host, int(port))


async def test_a_relay_on_some_addresses_names_them_all_and_serves_no_other() -> None:
    hosts = (HERE, "127.0.0.2", SIX)
    async with RelayServer(RelayConfig(host=hosts, port=0)) as server:
        port = int(server.url.rpartition(":")[2])
        assert server.urls == tuple(f"http://{h}:{port}" for h in (HERE, "127.0.0.2", f"[{SIX}]"))
        for host in hosts:
            assert await is_served(host, port)
        assert not await is_served("127.0.0.3", port)


async def test_a_relay_on_loopback_and_elsewhere_dials_nobody_on_loopback() -> None:
    server = RelayServer(RelayConfig(host=(HERE, "198.51.100.1")))
    assert not server.may_probe(Endpoint("127.0.0.9", 9000), (HERE,))
    assert server.may_probe(Endpoint("8.8.8.8", 9000), (HERE,))
    assert RelayServer(RelayConfig(host=(HERE, SIX))).may_probe(
        Endpoint("127.0.0.9", 9000), (HERE,)
    )


async def test_near_addresses_are_dialed_for_nobody_whom_a_proxy_has_brought() -> None:
    server = RelayServer(RelayConfig(host=HERE))
    for observed in ((), ("198.51.100.7",)):
        assert not server.may_probe(Endpoint("127.0.0.9", 9000), observed)
        assert server.may_probe(Endpoint("8.8.8.8", 9000), observed)
    proxied = RelayServer(RelayConfig(host=HERE, trusted_proxies=("127.0.0.2", "8.8.4.4")))
    assert not proxied.may_probe(Endpoint("127.0.0.9", 9000), (HERE,))
    assert not proxied.may_probe(Endpoint("8.8.4.4", 9000), ("198.51.100.7",)), "a proxy is no peer"
    assert proxied.may_probe(Endpoint("8.8.8.8", 9000), ("198.51.100.7",))


async def test_what_the_relay_itself_listens_on_is_nobodys_endpoint() -> None:
    zone = DnsConfig(zone="a.example", port=0)
    everywhere = (Endpoint("::", 53), Endpoint("0.0.0.0", 53))
    for host in (HERE, "127.9.9.9", SIX, "::ffff:127.0.0.1", "64:ff9b::7f00:1"):
        assert serves(everywhere, Endpoint(host, 53))
        assert not serves(everywhere, Endpoint(host, 54))
    async with RelayServer(
        RelayConfig(host="0.0.0.0", port=0, dns=zone, proof_networks="127.0.0.0/8, 10.0.0.0/8")
    ) as server:
        assert server.dns is not None
        for port in (int(server.url.rpartition(":")[2]), server.dns.port):
            assert not server.may_probe(Endpoint("127.9.9.9", port), ())
            assert not server.may_probe(Endpoint("::ffff:127.9.9.9", port), ())
            assert server.may_probe(Endpoint("10.1.1.1", port), ()), "no address of this host"
            assert server.may_probe(Endpoint("127.9.9.9", port - 1), ())
    async with RelayServer(RelayConfig(port=0)) as server:
        port = int(server.url.rpartition(":")[2])
        assert not server.may_probe(Endpoint(HERE, port), (HERE,))
        assert server.may_probe(Endpoint("127.0.0.9", port), (HERE,)), "it does not listen there"


# -- how it is said -------------------------------------------------------------------------------


def test_several_hosts_are_said_in_a_file_in_the_environment_and_by_flags(tmp_path: Path) -> None:
    file = tmp_path / "relay.toml"
    file.write_text('host = ["127.0.0.1", "::1"]\n[dns]\nzone = "a.example"\nhost = ["::1"]\n')
    config = load(str(file), {}, {})
    assert config.hosts == (HERE, SIX)
    assert config.dns is not None
    assert config.dns.hosts == (SIX,)
    variables = {"ROAM_RELAY_HOST": "::1, 127.0.0.2,", "ROAM_RELAY_DNS_HOST": "127.0.0.1,::1"}
    config = load(str(file), variables, {})
    assert config.hosts == (SIX, "127.0.0.2")
    assert config.dns is not None
    assert config.dns.hosts == (HERE, SIX)
    assert load(str(file), variables, {"host": ("::",)}).hosts == ("::",)
    assert RelayConfig().hosts == (HERE,)


@pytest.mark.parametrize("host", ["", ",", (), ("",), "a..b", "x" * 70, (HERE, "a b"), "[::1]", 7])
def test_what_is_no_address_is_said_where_it_is_configured(host: Any) -> None:
    with pytest.raises(ConfigError, match="host: "):
        RelayConfig(host=host)
    with pytest.raises(ConfigError, match="host: "):
        DnsConfig(zone="a.example", host=host)


def test_the_ready_file_and_the_log_name_all_of_them(tmp_path: Path) -> None:
    flags = ("--host", HERE, "--host", SIX, "--log-format", "json")
    with processes.relay(tmp_path, *flags) as (urls, process):
        first, second = urls.splitlines()
        assert first.startswith("http://127.0.0.1:")
        assert second == first.replace(HERE, f"[{SIX}]")
        for url in (first, second):
            with urllib.request.urlopen(f"{url}/healthz", timeout=30) as answer:
                assert answer.status == 200
        process.terminate()
        assert process.stderr is not None
        assert f"{first} {second}" in process.stderr.read()
