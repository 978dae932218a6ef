"""What only Linux has is not needed: the packages import, and a session runs, without any of it.

This is no test on another system; docs/releases.md says what was tried where.
"""

import subprocess
import sys

import pytest

from tests.support import processes

ELSEWHERE = """
import os, socket, sys
sys.modules.update(dict.fromkeys(["pyroute2", "uvloop", *{modules!r}]))
for module, names in (
    (os, ("splice", "pipe2", "SPLICE_F_NONBLOCK", "fchmod")),
    (
        socket,
        (
            *("AF_NETLINK", "NETLINK_ROUTE", "SO_PEERCRED", "SO_REUSEPORT"),
            *("TCP_INFO", "TCP_USER_TIMEOUT", "TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT"),
        ),
    ),
):
    for name in names:
        if hasattr(module, name):
            delattr(module, name)
# Only now, as for a program that is started there; what Python itself does is left to it.
import asyncio, platform, tempfile
import aiohttp, click, dns.asyncquery, ifaddr, prometheus_client, structlog, OpenSSL
sys.platform = {platform!r}

import relay.cli, peers.cli.main
from peers import Identity, Mode, Peer, PeerConfig
from relay.config import RelayConfig
from relay.server import RelayServer

async def main():
    alice, config = Identity.generate(), PeerConfig(listen_hosts=("127.0.0.1",))
    folder = tempfile.mkdtemp()
    async with (
        RelayServer(RelayConfig(port=0, state=folder, operator_socket="")) as server,
        Peer(alice, server.url, config=config) as one,
        Peer(Identity.generate(), server.url, config=config) as two,
    ):
        listener = one.listen("chat")
        await one.published()
        session = await two.connect(alice.guid, "chat", mode=Mode.CENTRAL)
        async for other in listener:
            break
        await session.send(bytes(300_000))
        print(len(await other.receive()))
        await session.close()

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("platform", "modules"), [("darwin", ()), ("win32", ("fcntl", "resource", "termios"))]
)
def test_a_session_runs_without_what_only_linux_has(
    platform: str, modules: tuple[str, ...]
) -> None:
    program = ELSEWHERE.replace("{platform!r}", repr(platform))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program.replace("{modules!r}", repr(modules))],
        text=True,
        capture_output=True,
        timeout=120,
        env=processes.environment(),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "300000\n"
