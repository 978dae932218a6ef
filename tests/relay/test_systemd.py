"""What systemd hears of a relay that is its service."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from relay.systemd import Systemd
from tests.support.processes import KEEPS_NOTHING, environment

LONG = 60.0


class Manager:
    """A service manager that listens."""

    def __init__(self, one: socket.socket) -> None:
        self._socket = one

    async def hear(self) -> dict[str, str]:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(LONG):
            data = await loop.sock_recv(self._socket, 4096)
        return dict(line.partition("=")[::2] for line in data.decode().splitlines())

    async def until(self, word: str) -> dict[str, str]:
        while word not in (said := await self.hear()):
            pass
        return said


@contextlib.contextmanager
def listening(path: str) -> Iterator[Manager]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.setblocking(False)
        one.bind(path)
        yield Manager(one)


async def test_a_service_says_that_it_serves_lives_reloads_and_ends(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with listening(path) as manager:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "relay", "serve", "--port", "0", *KEEPS_NOTHING),
            *("--drain-timeout", "0"),
            env=environment() | {"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "200000"},
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            ready = await manager.until("READY")
            assert "http://127.0.0.1:" in ready["STATUS"]
            for _ in range(3):
                await manager.until("WATCHDOG")
            process.send_signal(signal.SIGHUP)
            assert int((await manager.until("RELOADING"))["MONOTONIC_USEC"]) > 0
            await manager.until("READY")
            process.send_signal(signal.SIGTERM)
            assert int((await manager.until("STOPPING"))["EXTEND_TIMEOUT_USEC"]) == 75_000_000
            async with asyncio.timeout(LONG):
                assert await process.wait() == 0
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def test_an_abstract_name_is_one_too() -> None:
    name = f"roam-relay-test-{os.getpid()}"
    with listening(f"\0{name}") as manager:
        said = {"NOTIFY_SOCKET": f"@{name}"}
        Systemd(said).ready("here")
        assert await manager.hear() == {"READY": "1", "STATUS": "here"}
        assert said == {}, "what it starts is not the service"


async def test_nobody_who_listens_is_no_error(tmp_path: Path) -> None:
    alone = Systemd({})
    alone.ready("here")
    assert alone.interval is None
    await alone.keep_alive()
    Systemd({"NOTIFY_SOCKET": str(tmp_path / "none")}).stopping(1.0)


def test_signs_of_life_are_for_whom_they_are_wanted_of() -> None:
    assert Systemd({"WATCHDOG_USEC": "30000000"}).interval == 15.0
    assert Systemd({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}).interval is None
    for nonsense in ("", "0", "-1", "soon"):
        assert Systemd({"WATCHDOG_USEC": nonsense}).interval is None
