"""Where one relay serves: peers, operators where that is an address of its own, and the other
processes of its machine that are one relay with it."""

import ssl
from collections.abc import Mapping

from aiohttp.typedefs import Handler

from protocol.endpoint import Endpoint
from relay.config import ConfigError, RelayConfig
from relay.http.front import Arrivals, Front
from relay.http.mirror import Mirror
from relay.http.routes import Routes
from relay.log import log

__all__ = ["Fronts"]


class Fronts:
    """All of them. Call `open` first; `close`, and at the end `cleanup`."""

    def __init__(
        self,
        config: RelayConfig,
        arrivals: Arrivals,
        for_peers: Routes,
        for_operators: Mapping[str, Handler],
        health: Mapping[str, Handler],
    ) -> None:
        self._config = config
        shared = {} if config.admin_hosts else for_operators
        self.peers = Front(for_peers.with_more({**health, **shared}), arrivals)
        self.operators = Front(Routes({**for_operators, **health}), arrivals)
        self.siblings = Front(for_peers, arrivals)
        """Where legs are led to this process, and to no other one that shares its port."""
        self.mirror = Mirror(arrivals)
        """Where peers learn what their NAT does; open where it is configured."""

    @property
    def ports(self) -> set[int]:
        """Where it listens."""
        return {self.peers.port, self.operators.port, self.mirror.port} - {0}

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """The same, address by address."""
        fronts = self.peers, self.operators, self.siblings, self.mirror
        return tuple(endpoint for front in fronts for endpoint in front.endpoints)

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
        if config.observe_port:
            try:
                await self.mirror.open(config.hosts, config.observe_port, is_shared=is_shared)
            except ConfigError as error:
                raise ConfigError(f"observe_port: {error}") from None
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
        self.mirror.close()

    async def cleanup(self) -> None:
        """End everything that HTTP still has."""
        try:
            await self.peers.cleanup()
        finally:
            try:
                await self.siblings.cleanup()
            finally:
                await self.operators.cleanup()
