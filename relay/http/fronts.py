"""Where one relay serves: peers, and operators where that is an address of its own."""

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
    """Both of them. Call `open` first; `close`, and at the end `cleanup`."""

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

    @property
    def ports(self) -> set[int]:
        """Where it listens."""
        return {self.peers.port, self.operators.port} - {0}

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """The same, address by address."""
        return self.peers.endpoints + self.operators.endpoints

    async def open(self, context: ssl.SSLContext | None) -> None:
        """Listen, by https:// where there is a context; for operators only where others reach
        them: on a loopback address nobody is on the way.

        Raises:
            ConfigError: it cannot listen at one of them.
        """
        config = self._config
        await self.peers.open(config.hosts, config.port, context)
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

    async def cleanup(self) -> None:
        """End everything that HTTP still has."""
        try:
            await self.peers.cleanup()
        finally:
            await self.operators.cleanup()
