"""Figure 2: MN1 and its callers know a DNS zone, and no relay. The name server is BIND, or the
relay's own zone; it is on the draft's server.
"""

import base64
import contextlib
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import dns.tsig

from peers import Identity
from protocol.dns_records import key_file_text, peer_name
from relay.dns import DnsKeys
from tests.lab.draft import IP1, IP2, SERVER
from tests.lab.network import Host
from tests.lab.programs import DEADLINE, Program
from tests.lab.stage import Stage, Talk, talking
from tests.support.named import ZONE, named

__all__ = ["Names", "figure_2", "names"]

MN1 = Identity.from_seed(bytes(range(32)))
NAME = peer_name(MN1.guid, ZONE)

Kind = Literal["bind", "zone"]


class Names:
    """MN1 listens by name alone, and others find it."""

    def __init__(self, stage: Stage, folder: Path, key: str) -> None:
        self._stage = stage
        self._folder = folder
        (folder / "mn1.key").write_bytes(MN1.to_pem())
        (folder / "mn1.key").chmod(0o600)
        self._key = key

    def config(self, name: str) -> str:
        """Return the configuration file of a host's peer."""
        file = self._folder / f"{name}.toml"
        file.write_text(
            # The draft's old sessions have one address.
            'standby = "never"\n'
            f'[ddns]\nzone = "{ZONE}"\nserver = "{SERVER}"\ntimeout = 3.0\n'
            + (f'key_file = "{self._key}"\n' if name == "mn1" else "")
            + "[session]\nping_interval = 0.5\nsilence_limit = 2.0\n"
        )
        return str(file)

    def peer(self, name: str, *words: str) -> Program:
        """Run a `peer` command in a host."""
        key = str(self._folder / f"{name}.key")
        host = self._stage.net[name]
        return Program(host, "peers", "--config", self.config(name), "--key", key, *words)

    @contextlib.contextmanager
    def listen(self) -> Iterator[None]:
        """Let MN1 listen and be registered."""
        program = self.peer("mn1", "listen", "chat", "--echo", "--json")
        try:
            program.until("listening", program.out)
            yield
        finally:
            program.close()

    @contextlib.contextmanager
    def talk(self, name: str) -> Iterator[Talk]:
        """Let a host call MN1; yield the conversation once it flows."""
        with talking(self.peer(name, "connect", MN1.guid, "chat"), "dns") as talk:
            yield talk

    def found(self, name: str) -> list[str]:
        """Return the addresses that a host finds."""
        program = self.peer(name, "locate", MN1.guid, "chat", "--json")
        try:
            line = program.until("endpoints", program.out)
            return [one["host"] for one in json.loads(line)["endpoints"]]
        finally:
            program.close()


@contextlib.contextmanager
def names(stage: Stage, kind: Kind) -> Iterator[Names]:
    """Run the name server."""
    server = stage.net["server"]
    with tempfile.TemporaryDirectory(prefix="lab-names-") as made:
        folder = Path(made)
        with (_bind if kind == "bind" else _zone)(server, folder) as secret:
            key = folder / "mn1.tsig"
            key.write_text(key_file_text(NAME, secret))
            key.chmod(0o600)
            yield Names(stage, folder, str(key))


@contextlib.contextmanager
def _bind(server: Host, folder: Path) -> Iterator[bytes]:
    secret = bytes(range(32))
    key = dns.tsig.Key(f"{NAME}.", base64.b64encode(secret).decode(), "hmac-sha256")
    with named(folder, [key], host=SERVER, port=53, command=server.lasting):
        yield secret


@contextlib.contextmanager
def _zone(server: Host, folder: Path) -> Iterator[bytes]:
    """Run a relay for its zone alone; nobody is told where it is."""
    identity = Identity.generate()
    (folder / "relay.key").write_bytes(identity.to_pem())
    (folder / "relay.key").chmod(0o600)
    (folder / "relay.toml").write_text(
        f'host = "{SERVER}"\nport = 0\nidentity = "{folder}/relay.key"\n'
        f'[dns]\nzone = "{ZONE}"\nport = 53\nstore = "{folder}/dns.sqlite"\n'
    )
    ready = folder / "ready"
    words = (
        "serve",
        "--config",
        str(folder / "relay.toml"),
        "--ready-file",
        str(ready),
        "--state",
        "",
    )
    program = Program(server, "relay", *words)
    try:
        end = time.monotonic() + DEADLINE
        while not ready.exists():
            assert time.monotonic() < end
            time.sleep(0.02)
        yield DnsKeys(identity, ZONE).secret(MN1.guid)
    finally:
        program.close()


def figure_2(stage: Stage, kind: Kind = "zone") -> None:
    """Dynamic DNS: register, move, update; a caller asks the DNS and dials."""
    lab, net = stage.lab, stage.net
    stage.say("MN1 registers IP1 in a DNS zone on the server, by a signed update.")
    with names(stage, kind) as by_name, by_name.listen():
        assert by_name.found("cn3") == [IP1]
        stage.say("CN1 asks the DNS, and dials IP1.")
        with by_name.talk("cn1") as cn1:
            assert IP1 in net["cn1"].remote_hosts()
            stage.say("MN1 moves to MR2 and updates its records; IP1 is still led to it.")
            cn1.moving()
            lab.anchor()
            end = time.monotonic() + DEADLINE
            while by_name.found("cn3") != [IP2]:
                assert time.monotonic() < end
            stage.say("CN3 asks the DNS, which says IP2 now, and dials that.")
            with by_name.talk("cn3") as cn3:
                assert IP2 in net["cn3"].remote_hosts()
                assert IP1 not in net["cn3"].remote_hosts()
                assert IP1 in cn1.note_addresses(), "the update disturbs no session"
                stage.say("The server goes down, and IP1 with it: both sessions go on over IP2.")
                net["core"].ip("link set server down")
                cn1.moving()
                lab.end_anchor()
                cn1.moves_to(IP2)
                stage.finish(cn3, "figure 2, new session")
            stage.finish(cn1, "figure 2, old session")
