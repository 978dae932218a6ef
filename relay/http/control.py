"""`GET /v1/control`: a request becomes a control connection, on a raw socket or as a WebSocket."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from aiohttp import web

from protocol.messages import PAGE_PROTOCOL, WEBSOCKET_PROTOCOL
from relay.control import (
    Carrier,
    CarrierLimits,
    CarrierUser,
    RawCarrier,
    Source,
    WebSocketCarrier,
)
from relay.http import answers
from relay.http.door import Doorkeeper, TurnedAway
from relay.http.raw_request import RawRequest, is_raw_upgrade
from relay.http.takeover import (
    accept_upgrade,
    accept_websocket,
    can_become,
    is_foreign_websocket,
    is_tls,
    let_go,
    take_socket,
    take_transport,
)
from relay.http.visit import not_an_upgrade, visitor_of
from relay.http.visitor import Visitor
from relay.limits import Place

__all__ = ["ControlRoute"]

Connect = Callable[[Carrier, Source], CarrierUser]
"""Makes a control connection."""


class ControlRoute:
    """The route of one relay."""

    def __init__(
        self,
        doorkeeper: Doorkeeper,
        limits: CarrierLimits,
        connect: Connect,
        clock: Callable[[], float],
    ) -> None:
        self._doorkeeper = doorkeeper
        self._limits = limits
        self._connect = connect
        self._clock = clock

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve a request. One whose sender goes away meanwhile leaves nothing behind."""
        is_raw = is_raw_upgrade(request.headers)
        if not is_raw:
            websocket = web.WebSocketResponse(
                protocols=(PAGE_PROTOCOL, WEBSOCKET_PROTOCOL), compress=False
            )
            if is_foreign_websocket(request) or not can_become(websocket, request):
                return not_an_upgrade(request)
        visitor = visitor_of(request)
        if request.transport is None:
            return answers.nobody()
        try:
            place = self._doorkeeper.admit(visitor.origin, self._clock())
        except TurnedAway as error:
            return answers.refused(error, error.retry_after)
        with place:
            try:
                return await self._carry(request, visitor, place, is_raw)
            except ConnectionError:
                return answers.nobody()

    async def handle_raw(
        self, visitor: Visitor, request: RawRequest, sock: socket.socket
    ) -> web.Response | None:
        """Serve a request that aiohttp need not read. The socket is the connection's from then on,
        or is closed; not where a refusal is returned."""
        try:
            place = self._doorkeeper.admit(visitor.origin, self._clock())
        except TurnedAway as error:
            return answers.refused(error, error.retry_after)
        with place:
            carrier = self._carrier(visitor, place, is_raw=not request.is_websocket)
            try:
                try:
                    request.accept(sock)
                except BaseException:
                    sock.close()
                    raise
                await self._become(sock, carrier, visitor, place)
            except OSError:
                return None  # It has gone.
        return None

    async def _carry(
        self, request: web.Request, visitor: Visitor, place: Place, is_raw: bool
    ) -> web.StreamResponse:
        carrier = self._carrier(visitor, place, is_raw)
        response = await (accept_upgrade(request) if is_raw else accept_websocket(request))
        if is_tls(request):
            if take_transport(request, lambda _: carrier, visitor.bring):
                visitor.carried(carrier.abort)
                try:
                    # No timeout: the connection's own deadlines end it.
                    await carrier.closed
                finally:
                    carrier.abort("aborted")
                    let_go(request)
            return response
        visitor.taken()  # Before its one connection ends.
        taken = take_socket(request)
        if taken is None:
            visitor.left()
        else:
            await self._become(taken, carrier, visitor, place)
        return response

    def _carrier(self, visitor: Visitor, place: Place, is_raw: bool) -> RawCarrier:
        def lost() -> None:
            visitor.left()
            place.release()

        def connect(carrier: Carrier) -> CarrierUser:
            return self._connect(carrier, _source("raw" if is_raw else "websocket", visitor))

        if is_raw:
            return RawCarrier(connect, self._limits, lost)
        return WebSocketCarrier(connect, self._limits, lost, visitor.toll)

    async def _become(
        self, sock: socket.socket, carrier: RawCarrier, visitor: Visitor, place: Place
    ) -> None:
        """Let a socket become a control connection, which owns it from then on; or close it."""
        visitor.taken()
        try:
            await _give(sock, carrier)
        except BaseException:
            visitor.left()
            raise
        place.hand_over()
        visitor.carried(carrier.abort)


def _source(carrier: str, visitor: Visitor) -> Source:
    origin = visitor.origin
    return Source(carrier, origin.host, origin.port, origin.proxy, visitor.proven)


async def _give(taken: socket.socket, carrier: RawCarrier) -> None:
    """Give a socket to its carrier, which owns it from then on; or close it."""
    loop: Any = asyncio.get_running_loop()
    try:
        await loop.connect_accepted_socket(lambda: carrier, taken)
    except BaseException:
        carrier.abort("connection_lost")
        if not carrier.is_connected:
            taken.close()
        raise
