"""Figure 2: dynamic DNS. The name server is BIND, or the relay's own zone; no relay is asked."""

import base64
import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import dns.tsig
import pytest

from peers import Identity
from protocol.dns_records import key_file_text, peer_name
from relay.dns_keys import DnsKeys
from tests.ddns.named import ZONE, named
from tests.lab.draft import IP1, IP2, SERVER, Draft, draft
from tests.lab.network import LabUnavailable
from tests.lab.programs import DEADLINE, Program

MN1 = Identity.from_seed(bytes(range(32)))
NAME = peer_name(MN1.guid, ZONE)


@pytest.fixture
def lab() -> Iterator[Draft]:
    try:
        with draft() as built:
            yield built
    except LabUnavailable as reason:
        if os.environ.get("LAB_REQUIRED"):
            raise
        pytest.skip(str(reason))


def key_file(folder: Path, secret: bytes) -> str:
    file = folder / "mn1.tsig"
    file.write_text(key_file_text(NAME, secret))
    file.chmod(0o600)
    return str(file)


@contextlib.contextmanager
def bind(lab: Draft, folder: Path) -> Iterator[str]:
    """Run BIND on the server; yield the file of MN1's key."""
    secret = bytes(range(32))
    key = dns.tsig.Key(f"{NAME}.", base64.b64encode(secret).decode(), "hmac-sha256")
    command = lab.net["server"].command
    with named(folder, [key], host=SERVER, port=53, command=command):
        yield key_file(folder, secret)


@contextlib.contextmanager
def own_zone(lab: Draft, folder: Path) -> Iterator[str]:
    """Run the relay on the server for its zone alone; yield the file of MN1's key."""
    identity = Identity.generate()
    (folder / "relay.key").write_bytes(identity.to_pem())
    (folder / "relay.key").chmod(0o600)
    (folder / "relay.toml").write_text(
        f'host = "{SERVER}"\nidentity = "{folder}/relay.key"\n'
        f'[dns]\nzone = "{ZONE}"\nport = 53\nstore = "{folder}/dns.sqlite"\n'
    )
    ready = folder / "ready"
    program = Program(
        lab.net["server"],
        *("relay", "serve", "--config", str(folder / "relay.toml"), "--ready-file", str(ready)),
    )
    try:
        end = time.monotonic() + DEADLINE
        while not ready.exists():
            assert time.monotonic() < end
            time.sleep(0.02)
        yield key_file(folder, DnsKeys(identity, ZONE).secret(MN1.guid))
    finally:
        program.close()


def peer(lab: Draft, name: str, folder: Path, *words: str, key: str | None = None) -> Program:
    config = folder / f"{name}.toml"
    config.write_text(
        f'[ddns]\nzone = "{ZONE}"\nserver = "{SERVER}"\ntimeout = 3.0\n'
        + (f'key_file = "{key}"\n' if key else "")
        + "[session]\nping_interval = 0.5\nsilence_limit = 2.0\n"
    )
    identity = folder / f"{name}.key"
    if name == "mn1":
        identity.write_bytes(MN1.to_pem())
        identity.chmod(0o600)
    return Program(lab.net[name], "peers", "--config", str(config), "--key", str(identity), *words)


def found(lab: Draft, folder: Path, name: str) -> list[str]:
    """Return the addresses of the endpoints that a host finds by name."""
    program = peer(lab, name, folder, "locate", MN1.guid, "chat", "--json")
    try:
        line = program.until("endpoints", program.out)
        return [one["host"] for one in json.loads(line)["endpoints"]]
    finally:
        program.close()


class Talk:
    """A caller whose lines come back."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.number = 0

    def begin(self) -> str:
        return self.program.until("connected", self.program.errors)

    def check(self, count: int = 20) -> None:
        for _ in range(count):
            self.program.write(str(self.number))
            assert self.program.out.get(timeout=DEADLINE) == str(self.number)
            self.number += 1


@contextlib.contextmanager
def talk(lab: Draft, name: str, folder: Path) -> Iterator[Talk]:
    talking = Talk(peer(lab, name, folder, "connect", MN1.guid, "chat"))
    try:
        talking.begin()
        talking.check()
        yield talking
    finally:
        talking.program.close()


@pytest.mark.parametrize("server", [bind, own_zone])
def test_figure_2_register_move_update_ask_connect(
    lab: Draft, tmp_path: Path, server: "type[contextlib.AbstractContextManager[str]]"
) -> None:
    net = lab.net
    with contextlib.ExitStack() as stack:
        key = stack.enter_context(server(lab, tmp_path))  # type: ignore[call-arg]
        mn1 = peer(lab, "mn1", tmp_path, "listen", "chat", "--echo", "--json", key=key)
        stack.callback(mn1.close)
        mn1.until("listening", mn1.out)
        assert found(lab, tmp_path, "cn3") == [IP1]
        cn1 = stack.enter_context(talk(lab, "cn1", tmp_path))
        assert IP1 in net["cn1"].remote_hosts()
        # The move, and the update.
        lab.anchor()
        end = time.monotonic() + 20
        while found(lab, tmp_path, "cn3") != [IP2]:
            assert time.monotonic() < end
        cn3 = stack.enter_context(talk(lab, "cn3", tmp_path))
        assert IP2 in net["cn3"].remote_hosts()
        assert IP1 not in net["cn3"].remote_hosts()
        cn1.check()
        assert IP1 in net["cn1"].remote_hosts(), "the update disturbs no session"
        assert IP2 not in net["cn1"].remote_hosts()
        # Both sessions live on while the name server is down, and where IP1 ends.
        net["core"].ip("link", "set", "server", "down")
        lab.end_anchor()
        cn1.check(100)
        cn3.check(100)
        assert IP2 in net["cn1"].remote_hosts()


def test_figure_2_a_hard_move_is_found_by_name(lab: Draft, tmp_path: Path) -> None:
    """MN1 leaves while CN3 cannot hear of it but by the zone: CN3 moves at the same time."""
    net = lab.net
    with contextlib.ExitStack() as stack:
        key = stack.enter_context(own_zone(lab, tmp_path))
        mn1 = peer(lab, "mn1", tmp_path, "listen", "chat", "--echo", "--json", key=key)
        stack.callback(mn1.close)
        mn1.until("listening", mn1.out)
        cn3 = stack.enter_context(talk(lab, "cn3", tmp_path))
        lab.detach("mr1")
        lab.move_caller()
        lab.attach("mr2")
        cn3.check(100)
        assert IP2 in net["cn3"].remote_hosts()


def test_figure_2_a_caller_with_a_cache_does_not_miss_the_server(
    lab: Draft, tmp_path: Path
) -> None:
    net = lab.net
    with contextlib.ExitStack() as stack:
        key = stack.enter_context(bind(lab, tmp_path))
        mn1 = peer(lab, "mn1", tmp_path, "listen", "chat", "--echo", "--json", key=key)
        stack.callback(mn1.close)
        mn1.until("listening", mn1.out)
        found(lab, tmp_path, "cn3")
        cn3 = Program(net["cn3"], "tests.lab.two_calls", str(tmp_path / "cn3.toml"), MN1.guid)
        stack.callback(cn3.close)
        assert IP1 in cn3.until("connected", cn3.out)
        net["core"].ip("link", "set", "server", "down")
        cn3.write("again")
        assert IP1 in cn3.until("connected", cn3.out)
