"""Has a router pass this peer's port on, for as long as the peer runs. What is said when is decided
in lease.py."""

import asyncio
import os
from collections.abc import Callable

from peers.config import log
from peers.gateway.lease import Lease
from peers.gateway.messages import NONCE_BYTES, PORT
from peers.gateway.router import default_router
from peers.host import routed_source
from protocol.endpoint import Endpoint

__all__ = ["PortMapper"]

_NO_ROUTER = 60.0
"""Seconds after which a router is looked for again, unless the network changes before."""
_ELSEWHERE = 0.25
"""Seconds from one network to the router of the next: routes may flap, or lead by several ways."""
_MAX_WAITING = 16
"""Datagrams of the router that wait to be read; more are dropped."""


class PortMapper:
    """Of one peer that listens at `port`. `router` is an address, `auto` for the default route's,
    or empty: then nobody is asked. `tell` gets where others come in, whenever that changes."""

    def __init__(self, router: str, port: int, tell: Callable[[Endpoint | None], None]) -> None:
        self._router = router
        self._port = port
        self._tell = tell
        self._told: Endpoint | None = None
        self._changed = asyncio.Event()
        """Set when the network may be another one, or something has arrived."""

    @property
    def is_wanted(self) -> bool:
        """Whether a router is to be asked at all."""
        return bool(self._router)

    def look(self) -> None:
        """The network may have changed."""
        self._changed.set()

    async def run(self) -> None:
        """Keep a port mapped until cancelled; then take the mapping back."""
        while True:
            router = default_router() if self._router == "auto" else self._router
            is_elsewhere = router is not None and await self._at(router)
            self._say(None)
            if is_elsewhere:
                await asyncio.sleep(_ELSEWHERE)
            else:
                await self._wait(_NO_ROUTER)

    # -- inside ---------------------------------------------------------------------------------

    async def _at(self, router: str) -> bool:
        """Ask this router, until this host is elsewhere; False where it cannot be asked."""
        loop = asyncio.get_running_loop()
        answers: asyncio.Queue[bytes] = asyncio.Queue(_MAX_WAITING)
        try:
            transport, _ = await loop.create_datagram_endpoint(
                lambda: _Answers(answers, self._changed), remote_addr=(router, PORT)
            )
        except OSError as error:
            log.debug("no way to the router", router=router, reason=str(error))
            return False
        try:
            here = transport.get_extra_info("sockname")[0]
            lease = Lease(here, self._port, os.urandom(NONCE_BYTES), loop.time())
            try:
                while self._is_still(router, here):
                    while not answers.empty():
                        lease.receive(answers.get_nowait(), loop.time())
                    for datagram in lease.handle_timeout(loop.time()):
                        transport.sendto(datagram)
                    self._say(lease.mapped, lease.reason)
                    due = lease.next_timeout()
                    await self._wait(_NO_ROUTER if due is None else due - loop.time())
            finally:
                for datagram in lease.close():
                    transport.sendto(datagram)
        finally:
            transport.close()
        return True

    def _is_still(self, router: str, here: str) -> bool:
        if self._router == "auto" and default_router() != router:
            return False
        return routed_source(router) == here

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return
        self._changed.clear()

    def _say(self, mapped: Endpoint | None, reason: str = "") -> None:
        if mapped == self._told:
            return
        self._told = mapped
        log.info("port mapped" if mapped else "port not mapped", at=str(mapped), reason=reason)
        self._tell(mapped)


class _Answers(asyncio.DatagramProtocol):
    """What the router sends, and nobody else: the socket is connected."""

    def __init__(self, answers: "asyncio.Queue[bytes]", arrived: asyncio.Event) -> None:
        self._answers = answers
        self._arrived = arrived

    def datagram_received(self, data: bytes, addr: object) -> None:
        if not self._answers.full():
            self._answers.put_nowait(data)
            self._arrived.set()

    def error_received(self, exc: Exception) -> None:
        log.debug("the router takes no datagram", reason=str(exc))
