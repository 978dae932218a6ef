"""What systemd is told of a relay that is one of its services: that it serves, lives, reloads and
ends (sd_notify(3)). Where nobody listens, nothing is said.
"""

import asyncio
import os
import socket
from collections.abc import MutableMapping
from time import monotonic_ns

from relay.log import log

__all__ = ["Systemd"]

_LEAST = 0.1
"""Seconds between two signs of life at the least."""


class Systemd:
    """The service manager of this process; there may be none."""

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        """Take what it has said by the environment: what this process starts is not the service."""
        self._address = environment.pop("NOTIFY_SOCKET", "")
        watchdog = environment.pop("WATCHDOG_USEC", "")
        process = environment.pop("WATCHDOG_PID", "")
        wants = watchdog.isdecimal() and process in ("", str(os.getpid()))
        self.interval = max(_LEAST, int(watchdog) / 2e6) if wants and int(watchdog) else None
        """Seconds between two signs of life; None where none are wanted."""

    def ready(self, status: str) -> None:
        """The relay serves."""
        self._tell("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """The relay reads its configuration anew; `ready` says when it has."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={monotonic_ns() // 1000}")

    def stopping(self, seconds: float) -> None:
        """The relay drains, and wants so many seconds for it beside its usual end."""
        # Before that peers are sent to other nodes, for half a minute and some.
        extended = int((seconds + 45 + 30) * 1e6)
        self._tell("STOPPING=1", f"EXTEND_TIMEOUT_USEC={extended}", "STATUS=draining")

    async def keep_alive(self) -> None:
        """Give signs of life from this loop until cancelled: one that stands still gives none, and
        systemd starts the relay anew."""
        while self.interval is not None:
            self._tell("WATCHDOG=1")
            await asyncio.sleep(self.interval)

    def _tell(self, *lines: str) -> None:
        if not self._address or not hasattr(socket, "AF_UNIX"):
            return
        # An abstract name begins with a NUL, which an environment cannot hold.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as one:
                one.setblocking(False)
                one.sendto("\n".join(lines).encode(), address)
        except OSError as error:
            log.warning("systemd cannot be told", what=lines[0], reason=error.strerror)
