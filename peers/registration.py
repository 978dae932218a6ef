"""The control connection that comes back by itself, and the record that it keeps registered.

One attempt is `_attempt`; the loop that repeats it is `run`. It gives up only on what another
attempt cannot mend (`Code.is_retryable`), and then says so to everybody who waits.
"""

import asyncio
import ipaddress
import os
import random
import ssl
from collections.abc import Callable, Iterator

import ifaddr

from peers.backoff import backoff
from peers.config import PeerConfig
from peers.control import ControlConnection
from peers.log import log
from peers.upgrade import RelayAddress, Spawn, open_upgraded
from protocol.errors import RelayUnavailable, RoamRelayError, WrongIdentity
from protocol.identity import Identity
from protocol.messages import LocationRecord, ServiceRequestFrom

__all__ = ["Registration"]

AGENT = "roam-relay/0.1"


class Registration:
    """Keeps one peer registered with one relay.

    `make_record` returns the location record for a connection whose source address it is given;
    each call must return a higher `seq`.
    """

    def __init__(
        self,
        identity: Identity,
        config: PeerConfig,
        *,
        make_record: Callable[[str], LocationRecord],
        on_request: Callable[[ControlConnection, ServiceRequestFrom], None],
        spawn: Spawn,
        rng: Callable[[], float] = random.random,
    ) -> None:
        assert config.relay is not None
        context = None
        if config.relay_ca is not None:
            try:
                context = ssl.create_default_context(cafile=config.relay_ca)
            except OSError as error:
                raise RelayUnavailable(f"cannot use {config.relay_ca}: {error}") from None
        self.address = RelayAddress(config.relay, ssl_context=context)
        self.instance = os.urandom(16)
        self._identity = identity
        self._config = config
        self._make_record = make_record
        self._on_request = on_request
        self._spawn = spawn
        self._rng = rng
        self._changed = asyncio.Condition()
        self.current: ControlConnection | None = None
        self.failure: RoamRelayError | None = None
        """Why nothing is registered now."""
        self._final = False

    async def run(self) -> None:
        """Connect, register, and do it again whenever the connection ends. Ends on `close`,
        on cancellation, and on an error that another attempt cannot mend."""
        waits: Iterator[float] | None = None
        while not self._final:
            try:
                connection = await self._attempt()
            except RoamRelayError as error:
                await self._failed(error)
            else:
                waits = None
                log.info("registered", relay=str(self.address), source=connection.local_host)
                try:
                    await connection.keep_alive()
                    await self._failed(connection.closed.result())
                    if connection.restarting is not None and not self._final:
                        told = connection.restarting
                        await asyncio.sleep(told.delay + told.spread * self._rng())
                finally:
                    connection.close()
            if not self._final:
                waits = waits or backoff(self._rng)
                await asyncio.sleep(next(waits))

    async def connection(self, timeout: float) -> ControlConnection:
        """Return the registered connection; wait for it where there is none yet.

        Raises:
            RelayUnavailable: there is none in time, or never will be; says what the last attempt
                said.
        """
        try:
            async with asyncio.timeout(timeout), self._changed:
                await self._changed.wait_for(lambda: self._live() is not None or self._final)
        except TimeoutError:
            reason = f": {self.failure}" if self.failure else ""
            raise RelayUnavailable(
                f"not registered with {self.address} within {timeout:g} s{reason}",
                code=self.failure.code if self.failure else None,
            ) from None
        live = self._live()
        if live is None:
            raise self.failure or RelayUnavailable("closed")
        return live

    async def publish(self) -> None:
        """Register the record anew. Where nothing is connected, the next connection will.

        Raises:
            RoamRelayError: the relay refused it.
        """
        connection = self._live()
        if connection is not None:
            record = self._make_record(connection.local_host)
            await connection.update(record, self._config.connect_timeout)

    def _live(self) -> ControlConnection | None:
        current = self.current
        return None if current is None or current.closed.done() else current

    async def close(self) -> None:
        """End the connection and do not come back."""
        self._final = True
        connection, self.current = self.current, None
        if connection is not None:
            connection.close()
        async with self._changed:
            self._changed.notify_all()

    async def _attempt(self) -> ControlConnection:
        """Connect by the default route, else from each local address in turn, and register."""
        try:
            return await self._attempt_from(None)
        except RelayUnavailable as first:
            if first.code is not None:
                raise
            for source in self._other_sources():
                try:
                    return await self._attempt_from(source)
                except RelayUnavailable as error:
                    if error.code is not None:
                        raise
            raise

    async def _attempt_from(self, source: str | None) -> ControlConnection:
        config = self._config
        stream = await open_upgraded(
            self.address,
            "/v1/control",
            config.carrier,
            spawn=self._spawn,
            timeout=config.connect_timeout,
            local_address=source,
        )
        connection = ControlConnection(
            self._identity,
            self.instance,
            stream,
            flow=0,
            agent=AGENT,
            on_request=self._on_request,
            relay_guid=config.relay_guid,
        )
        try:
            await connection.register(
                self._make_record(connection.local_host), config.connect_timeout
            )
        except BaseException:
            stream.abort()
            raise
        async with self._changed:
            if self._final:
                connection.close()
                raise RelayUnavailable("closed")
            self.current = connection
            self.failure = None
            self._changed.notify_all()
        return connection

    def _other_sources(self) -> list[str]:
        """Return this host's addresses of the relay's family, but those that lead nowhere."""
        family: int | None = None
        try:
            relay = ipaddress.ip_address(self.address.host)
            if relay.is_loopback:
                return []
            family = relay.version
        except ValueError:
            pass  # A name: it may have addresses of both families.
        sources = []
        for adapter in ifaddr.get_adapters():
            for ip in adapter.ips:
                host = ip.ip if isinstance(ip.ip, str) else ip.ip[0]
                address = ipaddress.ip_address(host)
                if address.is_loopback or address.is_link_local:
                    continue
                if family is None or address.version == family:
                    sources.append(host)
        return sources

    async def _failed(self, error: RoamRelayError) -> None:
        final = isinstance(error, WrongIdentity) or (
            error.code is not None and not error.code.is_retryable
        )
        async with self._changed:
            self.current = None
            self.failure = error
            if final and not self._final:
                self._final = True
                log.error("registration ended", relay=str(self.address), reason=error.reason)
            elif not self._final:
                log.warning("not registered", relay=str(self.address), reason=error.reason)
            self._changed.notify_all()
