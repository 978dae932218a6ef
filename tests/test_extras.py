"""What an installation lacks is said in one sentence that names the extra; the rest works."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from protocol.errors import MissingExtra
from protocol.extras import LIBRARIES, needed
from tests.support import processes

ROOT = Path(__file__).parents[1]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]

WITHOUT = """
import sys
sys.modules.update(dict.fromkeys({modules!r}))
"""


def run(program: str, *extras: str) -> subprocess.CompletedProcess[str]:
    """Run a program as where these extras are not installed."""
    modules = [LIBRARIES[extra] for extra in extras]
    return subprocess.run(
        [sys.executable, "-c", WITHOUT.format(modules=modules) + program],
        text=True,
        capture_output=True,
        timeout=120,
        env=processes.environment(),
        check=False,
    )


def test_every_extra_is_one_of_pyproject() -> None:
    for extra, library in LIBRARIES.items():
        (requirement,) = EXTRAS[extra]
        named = {"dns": "dnspython", "sodium": "pynacl"}.get(extra, library)
        assert requirement.startswith(named)
    assert EXTRAS["all"] == [f"roam-relay[{','.join(LIBRARIES)}]"]


def test_only_the_library_of_the_extra_is_missed_by_it() -> None:
    says = r"^zones is not part .*pip install 'roam-relay\[dns\]'"
    with pytest.raises(MissingExtra, match=says), needed("dns", "zones"):
        raise ModuleNotFoundError(name="dns.tsig")
    with pytest.raises(ModuleNotFoundError), needed("dns", "zones"):
        raise ModuleNotFoundError(name="elsewhere")
    with needed("dns", "zones"):
        pass


PEER = """
import asyncio, logging
from peers import DdnsConfig, Identity, MissingExtra, Peer, PeerConfig
from relay.config import RelayConfig
from relay.server import RelayServer

logging.basicConfig(level="WARNING")
me = Identity.generate()
for made in (
    lambda: Peer(me, "http://127.0.0.1:1", ddns=DdnsConfig(zone="example.org")),
    lambda: Peer(me, "dns:example.org"),
):
    try:
        made()
    except MissingExtra as error:
        print(error)

async def main():
    async with RelayServer(RelayConfig(port=0)) as server:
        async with Peer(me, server.url, config=PeerConfig(listen_hosts=("127.0.0.1",))) as peer:
            peer.listen("chat")
            await peer.published()
            print("registered")

asyncio.run(main())
"""


def test_a_relay_and_a_peer_work_with_none_of_them() -> None:
    done = run(PEER, *LIBRARIES)
    assert done.returncode == 0, done.stderr
    zone, relay, registered = done.stdout.splitlines()
    assert zone.endswith("pip install 'roam-relay[dns]'")
    assert zone.startswith("dynamic DNS ")
    assert relay.startswith("a relay that the DNS names is not part of this installation")
    assert registered == "registered"


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("relay.cli serve --config {folder}/relay.toml", "Error: the relay's own zone is not part"),
        ("peers.cli.main --relay dns:example.org listen chat", "peer: a relay that the DNS names"),
    ],
)
def test_a_command_says_it_in_one_line(command: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "relay.toml").write_text('port = 0\n[dns]\nzone = "example.org"\nport = 0\n')
    module, *words = command.format(folder=tmp_path).split()
    done = run(f"from {module} import main\nsys.argv = {['x', *words]}\nmain()", *LIBRARIES)
    assert done.returncode in (1, 2)
    (line,) = [line for line in done.stderr.splitlines() if "roam-relay[dns]" in line]
    assert line.startswith(says)
    assert line.endswith("pip install 'roam-relay[dns]'")
    assert "Traceback" not in done.stderr


TABLE = """
import asyncio
from peers.cli.terminal import Terminal

async def main():
    async with Terminal(None, 1, 2) as terminal:
        for _ in range(2):
            rows = [["192.0.2.1:7", "3 ms"], ["é", ""]]
            await terminal.table("where", ["address", "delay"], rows)
        with terminal.bars() as bars:
            assert not bars.are_drawn

asyncio.run(main())
"""


def test_a_table_has_no_lines_where_nothing_draws_them() -> None:
    done = run(TABLE, "tables")
    assert done.returncode == 0, done.stderr
    assert done.stdout == 2 * "where\naddress      delay\n192.0.2.1:7  3 ms\né\n"
    assert done.stderr.count("pip install 'roam-relay[tables]'") == 1
