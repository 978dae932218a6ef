"""`GET /v1/plane/{ticket}`: a request becomes a leg of a user plane."""

import asyncio
import socket

from aiohttp import web

from protocol.errors import Code
from protocol.messages import EARLY_HEADER, PAGE_PROTOCOL, RESUME_HEADER
from relay.broker import Broker
from relay.control import Reception
from relay.http import answers
from relay.http.handover import Handover
from relay.http.origin import Headers
from relay.http.page import hands_out
from relay.http.raw_request import RawRequest, is_raw_upgrade
from relay.http.takeover import (
    accept_upgrade,
    can_become,
    chosen_protocol,
    is_foreign_websocket,
    is_tls,
    let_go,
    take_socket,
    take_transport,
)
from relay.http.visit import not_an_upgrade, visitor_of
from relay.http.visitor import Visitor
from relay.limits import HANDSHAKE, SIGNATURE, cause_of
from relay.plane import (
    Detour,
    Detours,
    Planes,
    Seat,
    SocketLeg,
    TicketRefused,
    TlsLeg,
    Wanted,
    WebSocketLeg,
)

__all__ = ["PlaneRoute"]

_MAX_FRAME = 1 << 22


class PlaneRoute:
    """The route of one relay. Coming back with a ticket asks the other side, and counts as one of
    the peer's service requests."""

    def __init__(
        self,
        planes: Planes,
        broker: Broker,
        reception: Reception,
        detours: Detours,
        handover: Handover | None = None,
    ) -> None:
        """`handover` is there where processes share the port."""
        self._planes = planes
        self._detours = detours
        self._broker = broker
        self._reception = reception
        self._handover = handover

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve a request. A leg whose sender goes away meanwhile ends its plane."""
        websocket, is_page = None, False
        if not is_raw_upgrade(request.headers):
            protocol = chosen_protocol(request)
            is_page = protocol == PAGE_PROTOCOL
            websocket = web.WebSocketResponse(
                protocols=(protocol,) if protocol else (),
                compress=False,
                autoping=False,
                max_msg_size=_MAX_FRAME,
            )
            if is_foreign_websocket(request) or not can_become(websocket, request):
                return not_an_upgrade(request)
        visitor, query = visitor_of(request), request.query
        bearer = (
            request.match_info["ticket"],
            query.get("guid", ""),
            query.get("signature", ""),
        )
        brings = answers.early_bytes(request.headers)
        if is_page and "early" in query:
            brings = answers.early_in_query(query["early"])
        admitted = await self._admit(visitor, bearer, request.headers, brings)
        if isinstance(admitted, web.Response):
            return admitted
        seat, early = admitted
        with seat:
            try:
                if websocket is None:
                    return await self._raw(request, seat, early)
                websocket.headers[RESUME_HEADER] = seat.resume
                await websocket.prepare(request)
                if is_page:
                    await websocket.send_str(hands_out(seat.resume))
            except ConnectionError:
                return answers.nobody()
            leg = WebSocketLeg(request, websocket, visitor_of(request).toll)
            seat.attach(leg, early)
            await seat.stay(leg)
        return websocket

    async def handle_raw(
        self, visitor: Visitor, request: RawRequest, sock: socket.socket
    ) -> web.Response | None:
        """Serve a request that aiohttp need not read. The socket becomes the leg, or is closed;
        not where a refusal is returned."""
        if self._is_given(visitor, request, sock):
            return None
        bearer = (request.ticket, request.guid, request.signature)
        brings = answers.early_bytes(request.headers)
        admitted = await self._admit(visitor, bearer, request.headers, brings)
        if isinstance(admitted, web.Response):
            return admitted
        seat, early = admitted
        with seat:
            try:
                request.accept(sock, {RESUME_HEADER: seat.resume})
                seat.attach(SocketLeg(sock, visitor.toll), early)
            except OSError:
                sock.close()
            except BaseException:
                sock.close()
                raise
        return None

    def _is_given(self, visitor: Visitor, request: RawRequest, sock: socket.socket) -> bool:
        """Give the connection to the process that has the plane, where that is another one; return
        whether it is that one's now. It asks all that is asked here."""
        if self._handover is None or not visitor.is_whole:
            return False
        node = self._detours.name_of(request.ticket)
        if not node or not self._handover.give(node, sock):
            return False
        self._reception.metrics.cluster["leg given"] += 1
        visitor.left()
        return True

    async def _admit(
        self,
        visitor: Visitor,
        bearer: tuple[str, str, str],
        headers: Headers,
        early: bytes | None,
    ) -> tuple[Seat | Detour, bytes] | web.Response:
        """Let the bearer of a ticket, with its GUID and signature, come in: return its seat, or
        its way to the node that has the plane, and what it brings for the other leg, which is None
        where that cannot be read; or a refusal."""
        ticket, guid, signature = bearer
        host = self._detours.host_of(ticket, headers, visitor.origin.host)
        wait = visitor.led(host) if host != visitor.origin.host else 0.0
        if early is None:
            visitor.refused("bad_message", "early bytes that cannot be read")
            return answers.refusal(Code.BAD_MESSAGE, f"{EARLY_HEADER} cannot be read")
        if wait := wait or visitor.toll.take(SIGNATURE):
            visitor.refused("work")
            return answers.refusal(Code.LIMIT_EXCEEDED, "too much at once", wait)
        node = self._detours.node_of(ticket, headers)
        if node.startswith("https:") and (wait := visitor.toll.take(HANDSHAKE)):
            visitor.refused("work")
            return answers.refusal(Code.LIMIT_EXCEEDED, "too much at once", wait)
        try:
            seat: Seat | Detour = (
                await self._detours.open(node, Wanted(*bearer, early, host, cause_of(host)))
                if node
                else self._planes.admit(ticket, guid, signature, host)
            )
        except TicketRefused as error:
            visitor.refused("planes" if error.code is Code.LIMIT_EXCEEDED else str(error.code))
            return answers.refused(error)
        stays = False
        try:
            refusal = self._not_admitted(visitor, guid, host)
            if refusal is None and isinstance(seat, Seat) and seat.asks_other:
                refusal = self._ask_other(visitor, seat, guid)
            if refusal is None:
                visitor.proven(guid)
                stays = True
                return seat, early
            return refusal
        finally:
            if not stays:
                seat.give_up("reset")

    def _not_admitted(self, visitor: Visitor, guid: str, host: str) -> web.Response | None:
        """Return a refusal where the bearer of a ticket is not admitted any more: a ticket for a
        next plane is good without a control connection."""
        refusal = self._reception.admission.judge(guid, host)
        if refusal is None:
            return None
        visitor.refused(refusal.outcome.value)
        return answers.refusal(refusal.code, refusal.reason, refusal.retry_after)

    def _ask_other(self, visitor: Visitor, seat: Seat, guid: str) -> web.Response | None:
        """Ask the other peer for its leg; return a refusal where that cannot be. The ticket stays
        good then: the other one may come back."""
        now = self._reception.clock()
        if wait := self._reception.requests.take(guid, now):
            seat.give_up("discarded")
            visitor.refused("too_many_requests")
            return answers.refusal(Code.LIMIT_EXCEEDED, "too many requests", wait)
        if not self._broker.ask_for_leg(seat.purpose, seat.cause, seat.tickets, now):
            seat.give_up("discarded")
            visitor.refused("peer_offline")
            return answers.refusal(Code.PEER_OFFLINE, "the other peer is not here now")
        return None

    async def _raw(
        self, request: web.Request, seat: Seat | Detour, early: bytes
    ) -> web.StreamResponse:
        response = await accept_upgrade(request, {RESUME_HEADER: seat.resume})
        toll = visitor_of(request).toll
        if not is_tls(request):
            taken = take_socket(request)
            if taken is not None:
                seat.attach(SocketLeg(taken, toll), early)
            return response
        legs: list[TlsLeg] = []

        def take(transport: asyncio.Transport) -> asyncio.Protocol:
            legs.append(TlsLeg(transport, toll))
            return legs[0].protocol

        if take_transport(request, take, visitor_of(request).bring):
            seat.attach(legs[0], early)
            try:
                await seat.stay(legs[0])
            finally:
                let_go(request)
        return response
