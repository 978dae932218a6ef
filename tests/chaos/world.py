"""The world of a chaos run: two peers with addresses that come and go, and a relay that dies.

Everything is real but two things: a host's list of addresses is the test's
(tests/support/addresses.py), and a path can be muted, as when packets are dropped without a word
(tests/support/faults.py).
"""

import asyncio
import base64
import sys
from collections.abc import Callable
from pathlib import Path as FilePath

from peers import DdnsConfig, Identity, Peer, PeerConfig, SessionSettings
from relay.dns import DnsKeys
from tests.support.addresses import Addresses
from tests.support.named import ZONE
from tests.support.ports import free_port
from tests.support.processes import KEEPS_NOTHING, environment

SETTINGS = SessionSettings(
    window=256 * 1024, resume_window=60.0, ping_interval=0.3, silence_limit=1.0
)


class Host:
    """A peer and the addresses that it may have."""

    def __init__(
        self, number: int, relay: str | None, ddns: Callable[[str], DdnsConfig] | None = None
    ) -> None:
        """`relay` is where one is; `ddns` what a GUID needs to be in a zone."""
        self.all = tuple(f"127.0.{number}.{last}" for last in (1, 2, 3))
        self.addresses = Addresses(self.all)
        identity = Identity.generate()
        config = PeerConfig(
            relay=relay,
            ddns=ddns(identity.guid) if ddns is not None else None,
            sources=self.all,
            listen_hosts=("0.0.0.0",),
            stagger=0.05,
            connect_timeout=5.0,
            path_timeout=3.0,
            request_timeout=3.0,
            session=SETTINGS,
        )
        self.peer = Peer(identity, config=config, addresses=self.addresses)


class Relay:
    """A relay process on one port, which can be killed and started again."""

    def __init__(self, folder: FilePath) -> None:
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None
        self._port = free_port()
        self._dns_port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self._identity = Identity.load_or_create(folder / "relay.key")
        (folder / "relay.toml").write_text(
            f'identity = "{folder}/relay.key"\nport = {self._port}\n'
            f'[dns]\nzone = "{ZONE}"\nport = {self._dns_port}\nstore = "{folder}/dns.sqlite"\n'
            "answers_per_second = 1e6\nanswers_burst = 1000000\nmade_per_second = 1e6\n"
        )

    def ddns(self, guid: str) -> DdnsConfig:
        """Return what a peer needs to be in the relay's zone."""
        secret = DnsKeys(self._identity, ZONE).secret(guid)
        return DdnsConfig(
            zone=ZONE,
            server=f"127.0.0.1:{self._dns_port}",
            key=base64.b64encode(secret).decode(),
            timeout=3.0,
        )

    async def start(self) -> None:
        """Start the process; return when it serves."""
        ready = self._folder / "ready"
        ready.unlink(missing_ok=True)
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "relay", "serve", "--config", str(self._folder / "relay.toml"), *KEEPS_NOTHING),
            *("--ready-file", str(ready)),
            stderr=asyncio.subprocess.DEVNULL,
            env=environment(),
        )
        async with asyncio.timeout(60):
            while not ready.exists():
                assert self._process.returncode is None, "the relay ended"
                await asyncio.sleep(0.02)

    async def kill(self) -> None:
        """kill -9."""
        if self._process is not None:
            process, self._process = self._process, None
            process.kill()
            await process.wait()
