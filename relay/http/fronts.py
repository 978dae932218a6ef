"""Where one relay serves: peers, operators where that is an address of its own, and the other
processes of its machine that are one relay with it."""

import ssl
from collections.abc import Callable, Mapping

from aiohttp.typedefs import Handler

from protocol.endpoint import Endpoint
from relay.config import ConfigError, RelayConfig
from relay.http.front import Front
from relay.http.routes import Routes
from relay.log import log

__all__ = ["Fronts"]


class Fronts:
    """All of them. Call `open` first; `close`, and at the end `cleanup`."""

    def __init__(
        self,
        config: RelayConfig,
        make: Callable[[Routes], Front],
        for_peers: Routes,
        for_operators: Mapping[str, Handler],
        health: Mapping[str, Handler],
    ) -> None:
        """`make` returns a front that serves routes."""
        self._config = config
        shared = {} if config.admin_hosts else for_operators
        self.peers = make(for_peers.with_more({**health, **shared}))
        self.operators = make(Routes({**for_operators, **health}))
        self.siblings = make(for_peers)
        """Where legs are led to this process, and to no other one that shares its port."""

    @property
    def ports(self) -> set[int]:
        """Where it listens."""
        return {self.peers.port, self.operators.port} - {0}

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """The same, address by address."""
        return self.peers.endpoints + self.operators.endpoints + self.siblings.endpoints

    async def open(self, context: ssl.SSLContext | None, *, is_shared: bool = False) -> None:
        """Listen, by https:// where there is a context; for operators only where others reach
        them: on a loopback address nobody is on the way. Where the port is shared with other
        processes, these have an address of their own.

        Raises:
            ConfigError: it cannot listen at one of them.
        """
        config = self._config
        await self.peers.open(config.hosts, config.port, context, is_shared=is_shared)
        if is_shared:
            await self.siblings.open(("127.0.0.1",), 0)
        if not config.admin_hosts:
            return
        if config.admin_is_on_loopback:
            context = None
        elif context is None:
            log.warning(
                "the admin_token is sent unencrypted: name a certificate (tls_certificate), or "
                "listen on a loopback address",
                admin_host=" ".join(config.admin_hosts),
            )
        try:
            await self.operators.open(config.admin_hosts, config.admin_port, context)
        except ConfigError as error:
            raise ConfigError(f"admin: {error}") from None

    def close(self) -> None:
        """Accept nobody any more. Who is here already stays."""
        self.peers.close()
        self.operators.close()
        self.siblings.close()

    async def cleanup(self) -> None:
        """End everything that HTTP still has."""
        try:
            await self.peers.cleanup()
        finally:
            try:
                await self.siblings.cleanup()
            finally:
                await self.operators.cleanup()
