"""The servers of NATS, and a connection to one of them: by what it is made, and how it ends. What
is said over it is its maker's."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import nats.errors
from nats.aio.client import Client

from relay.config import ClusterConfig

__all__ = ["CONNECTING", "Servers", "check_wanted", "close", "in_words"]

CONNECTING = 5.0
"""Seconds for a server to take a connection, and to know of a subscription."""
_TWICE = 0.1
"""Seconds between two attempts."""
_PING = 1.0
"""Seconds between two pings; two that stay unanswered end the connection."""


class Servers:
    """Those that are configured, one tried after the other. `place` says where a file of the
    configuration is."""

    def __init__(self, config: ClusterConfig, place: Callable[[str], str]) -> None:
        self._config = config
        self._place = place
        self._attempts = 0

    async def connect(
        self,
        client: Client,
        closed: Callable[[], object],
        failed: Callable[[Exception], Awaitable[object]],
    ) -> None:
        """Connect to the next one; what fails is an exception of NATS, or of the system."""
        config = self._config
        server = config.all_servers[self._attempts % len(config.all_servers)]
        self._attempts += 1
        options: dict[str, object] = {}
        if config.credentials is not None:
            options["user_credentials"] = self._place(config.credentials)
        if config.user is not None and config.password is not None:
            options["user"] = config.user
            options["password"] = await asyncio.to_thread(_line, self._place(config.password))
        if server.startswith("tls:"):
            options["tls"] = await asyncio.to_thread(self._tls)
        why: Exception | None = None

        async def heard(error: Exception) -> None:
            nonlocal why
            why = error
            await failed(error)

        try:
            await self._connect(client, server, closed, heard, options)
        except nats.errors.NoServersError as error:
            raise why or error from None

    async def _connect(
        self,
        client: Client,
        server: str,
        closed: Callable[[], object],
        failed: Callable[[Exception], Awaitable[object]],
        options: dict[str, object],
    ) -> None:
        await client.connect(
            servers=server,
            name=f"roam-relay {self._config.node}",
            allow_reconnect=False,
            # One that refuses is tried twice at once. By itself the library tries it for minutes,
            # every two seconds, and no other one.
            max_reconnect_attempts=1,
            reconnect_time_wait=_TWICE,  # type: ignore[arg-type]  # It is slept for.
            connect_timeout=int(CONNECTING),
            ping_interval=_PING,  # type: ignore[arg-type]  # It is slept for.
            max_outstanding_pings=2,
            closed_cb=closed,  # type: ignore[arg-type]
            error_cb=failed,  # type: ignore[arg-type]
            **options,  # type: ignore[arg-type]
        )

    def _tls(self) -> ssl.SSLContext:
        config = self._config
        context = ssl.create_default_context(
            cafile=self._place(config.tls_ca) if config.tls_ca is not None else None
        )
        if config.tls_certificate is not None and config.tls_key is not None:
            context.load_cert_chain(
                self._place(config.tls_certificate), self._place(config.tls_key)
            )
        return context


def check_wanted() -> None:
    """To be called behind what the library waits for: `wait_for` of Python 3.11, which it uses, has
    an answer in place of a cancellation that comes at the same instant, and who goes on then never
    ends.

    Raises:
        CancelledError: this task has been cancelled.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def close(client: Client) -> None:
    """End a connection, whatever state it is in."""
    if client.is_closed or (client.connected_url is None and not client.is_connecting):
        return  # It was never begun, or is over.
    try:
        async with asyncio.timeout(1.0):
            await client.close()
    except (nats.errors.Error, OSError, TimeoutError):
        return  # It is over in any case.


def in_words(error: Exception) -> str:
    """Return what has failed, for a line in the log."""
    text = str(error) or type(error).__name__
    return f"NATS: {text.removeprefix('nats: ')}"


def _line(file: str) -> str:
    return Path(file).read_text().strip()
