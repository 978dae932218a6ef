"""What a peer does on its control connection: how it comes, proves itself, and goes on."""

import asyncio
import os
import time

from peers.conformance.checks import Checks
from peers.conformance.faults import Fault
from peers.conformance.frames import Kind
from peers.conformance.peer_stage import PEER, SERVICE, PeerStage
from peers.conformance.pipes import WebSocketPipe
from peers.conformance.played_relay import opened
from peers.conformance.talk import Map, Talk, packed
from protocol.identity import Identity

__all__: list[str] = []

check: Checks[PeerStage] = PEER


# -- carriers -------------------------------------------------------------------------------------


@check("R3.4", "asks for the raw upgrade as the page has it")
async def raw_request(stage: PeerStage) -> None:
    async with stage.fresh("raw") as peer:
        arrival = await peer.relay.arrival()
        headers = arrival.headers
        if arrival.target != "/v1/control":
            raise Fault(f"asks for {arrival.target}")
        if headers.get("upgrade") != "roam-relay/1":
            raise Fault(f"`Upgrade: {headers.get('upgrade')}`")
        if "upgrade" not in headers.get("connection", "").lower() or "host" not in headers:
            raise Fault("`Connection: Upgrade` and `Host` belong to an upgrade")
        arrival.pipe.abort()


@check("R3.5", "says nothing behind its request before the 101")
async def waits_for_101(stage: PeerStage) -> None:
    async with stage.fresh() as peer:
        arrival = await peer.relay.arrival()
        await Talk(arrival.pipe).silence("before the 101")
        arrival.pipe.abort()


@check("R3.7", "passes over answers of status 1xx before the 101")
async def interim_answers(stage: PeerStage) -> None:
    async with stage.fresh() as peer:
        arrival = await peer.relay.arrival()
        early = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
        await Talk(arrival.accept(before=early)).expect("hello")


@check("R3.8", "asks for a WebSocket of version 13 and names `roam-relay.1`")
async def websocket_request(stage: PeerStage) -> None:
    async with stage.fresh("websocket") as peer:
        arrival = await peer.relay.arrival()
        if not arrival.is_websocket:
            raise Fault("asks for another upgrade than `websocket`")
        if arrival.headers.get("sec-websocket-version") != "13":
            raise Fault("`Sec-WebSocket-Version` is 13")
        names = arrival.headers.get("sec-websocket-protocol", "").split(",")
        if "roam-relay.1" not in [name.strip() for name in names]:
            raise Fault(f"names the protocols {names}")
        await Talk(arrival.accept()).expect("hello")


@check("R3.11", "takes the bytes of the stream in whatever WebSocket messages they come")
@check("R3.14", "takes WebSocket fragments and empty messages")
async def websocket_messages(stage: PeerStage) -> None:
    async with stage.fresh("websocket") as peer:
        control = await peer.relay.control()
        pipe = control.talk.pipe
        if not isinstance(pipe, WebSocketPipe):
            raise Fault("no WebSocket was asked for")
        wanted = packed({"type": "ping", "ping": 7}) + packed({"type": "ping", "ping": 8})
        control.challenge()
        await control.proven()
        control.confirm()
        encode = pipe.frames.encode
        pieces = [
            encode(Kind.BINARY, wanted[:1]),
            encode(Kind.BINARY, b""),
            encode(Kind.BINARY, wanted[1:5], last=False),
            encode(Kind.PING, b"x"),
            encode(Kind.CONTINUATION, wanted[5:9], last=False),
            encode(Kind.CONTINUATION, b"", last=True),
            encode(Kind.BINARY, wanted[9:]),
        ]
        for piece in pieces:
            pipe.send_frames(piece)
            await asyncio.sleep(0)
        for number in (7, 8):
            await _pong(control.talk, number)


@check("R3.13", "ends a connection on which a text message comes")
async def text_message(stage: PeerStage) -> None:
    async with stage.fresh("websocket") as peer:
        control = await peer.relay.registered()
        pipe = control.talk.pipe
        if isinstance(pipe, WebSocketPipe):
            pipe.send_frames(pipe.frames.encode(Kind.TEXT, b"text"))
        await control.talk.closed("behind a text message")


@check("R3.16", "takes a close frame for the end, and comes back")
async def close_frame(stage: PeerStage) -> None:
    async with stage.fresh("websocket") as peer:
        control = await peer.relay.registered()
        control.talk.pipe.close()
        await peer.relay.registered()


@check("R3.18", "comes back after a refusal by HTTP, whatever its code")
async def http_refusal(stage: PeerStage) -> None:
    async with stage.fresh() as peer:
        for status, code in (
            ("403 Forbidden", "not_admitted"),
            ("400 Bad Request", "superseded"),
            ("503 Service Unavailable", "restarting"),
        ):
            (await peer.relay.arrival()).refuse(status, code)
        await peer.relay.registered()


# -- the handshake --------------------------------------------------------------------------------


@check("R5.1", "says hello with its GUID and fresh nonces")
@check("R2.7", "keeps its instance for as long as it runs")
async def hello(stage: PeerStage) -> None:
    async with stage.fresh() as peer:
        seen: list[Map] = []
        for _ in range(2):
            control = await peer.relay.control()
            seen.append(control.hello)
            control.talk.pipe.abort()
        for one in seen:
            if one.get("guid") != peer.guid:
                raise Fault(f"`guid` is {one.get('guid')}")
            sizes = [len(one.get(name, b"")) for name in ("instance", "nonce")]
            if sizes != [16, 32]:
                raise Fault(f"instance and nonce have {sizes} bytes, not 16 and 32")
            if one.get("version", 1) != 1 or one.get("flow", 0) not in range(4):
                raise Fault(f"version {one.get('version')}, flow {one.get('flow')}")
        if seen[0]["nonce"] == seen[1]["nonce"]:
            raise Fault("the nonce of two connections is the same (R5.1)")
        if seen[0]["instance"] != seen[1]["instance"]:
            raise Fault("the instance of two connections differs (R2.7)")


@check("R5.7", "waits for the challenge before it says more")
async def waits_for_challenge(stage: PeerStage) -> None:
    async with stage.fresh() as peer:
        control = await peer.relay.control()
        await control.talk.silence("before the challenge")
        control.talk.pipe.abort()


async def _ends_at_challenge(stage: PeerStage, **changed: object) -> None:
    async with stage.fresh() as peer:
        control = await peer.relay.control()
        control.challenge(**changed)
        said = await control.talk.closed("behind a challenge that proves nothing")
        if any(one.get("type") == "register" for one in said if isinstance(one, dict)):
            raise Fault("registers with a relay that has not proven itself")
        await peer.relay.registered()


@check("R5.3", "leaves a relay whose challenge is not signed by its key")
async def wrong_challenge(stage: PeerStage) -> None:
    await _ends_at_challenge(stage, signature=os.urandom(64))


@check("R5.3", "leaves a relay whose challenge is signed by another key than its GUID's")
async def challenge_of_another(stage: PeerStage) -> None:
    await _ends_at_challenge(stage, guid=Identity.generate().guid)


@check("R5.3", "leaves a relay whose challenge was signed for another connection")
async def replayed_challenge(stage: PeerStage) -> None:
    async with stage.fresh() as peer:
        first = await peer.relay.control()
        first.talk.pipe.abort()
        control = await peer.relay.control()
        control.hello["nonce"], mine = first.hello["nonce"], control.hello["nonce"]
        control.challenge()
        said = await control.talk.closed("behind a challenge for another nonce")
        if any(one.get("type") == "register" for one in said if isinstance(one, dict)):
            raise Fault("takes the challenge of another connection: its nonce is not looked at")
        control.hello["nonce"] = mine


@check("R4.10", "ends a connection on which a challenge is malformed")
async def malformed_challenge(stage: PeerStage) -> None:
    await _ends_at_challenge(stage, nonce=bytes(31))


@check("R5.4", "signs its registration for this relay, nonce, instance and record")
@check("R2.5", "signs under the context of a registration")
async def register(stage: PeerStage) -> None:
    async with stage.fresh() as peer:
        await peer.relay.registered()


@check("R6.1", "registers a record that holds the service")
@check("R6.5", "signs entries of seven elements, each in its bounds")
@check("R2.6", "signs an entry under its context, for its own key")
async def record(stage: PeerStage) -> None:
    peer = await stage.standing()
    control = peer.at_relay
    if not control.offers(SERVICE):
        raise Fault(f"the record has no service {SERVICE!r}")
    for signed in control.entries(SERVICE):
        seq, service, host, port, phase, lifetime, provenance, *_ = opened(peer.guid, signed)
        if service != SERVICE or not 0 <= seq <= control.record["seq"]:
            raise Fault(f"an entry of {service!r} with number {seq} in record {control.record}")
        if not (0 < port < 65_536 and 0 <= lifetime <= 604_800 and len(host) <= 45):
            raise Fault(f"an entry at {host}:{port} for {lifetime} s")
        words = {"preferred", "new", "leaving"}, {"interface", "observed", "configured"}
        if phase not in words[0] or provenance not in words[1]:
            raise Fault(f"an entry that is {phase!r}, {provenance!r}")


@check("R4.1", "reads messages in whatever pieces they come")
async def pieces(stage: PeerStage) -> None:
    async with stage.fresh() as peer:
        control = await peer.relay.registered()
        talk = control.talk
        data = b"".join(packed({"type": "ping", "ping": number}) for number in range(3))
        for byte in data:
            talk.pipe.send(bytes([byte]))
            await talk.pipe.flush()
            await asyncio.sleep(0)
        for number in range(3):
            await _pong(talk, number)


@check("R4.9", "passes over keys that it does not know")
async def unknown_keys(stage: PeerStage) -> None:
    async with stage.fresh() as peer:
        control = await peer.relay.control()
        later = {"x": [1, None, b"\0", 1.5, True, {"y": "z"}]}
        control.challenge(later=later, features=["of-a-later-version"])
        await control.proven()
        control.confirm(later=later, another=None)
        await _lives(control.talk)


@check("R4.5", "takes an integer where a float stands")
async def integers(stage: PeerStage) -> None:
    async with stage.fresh() as peer:
        control = await peer.relay.control()
        control.challenge(limits={"heartbeat": 300, "lease": 600, "request_timeout": 60})
        await control.proven()
        control.confirm(heartbeat=300, lease=600)
        await _lives(control.talk)


async def _lives(talk: Talk) -> None:
    talk.say("ping", ping=4_294_967_295)
    await _pong(talk, 4_294_967_295)


async def _pong(talk: Talk, number: int) -> None:
    """The next pong must be of this number, which is left out where it is 0."""
    answer = await talk.find("pong")
    if answer.get("ping", 0) != number:
        raise Fault(f"ping {number} is answered with {answer.get('ping', 0)}")


# -- refusals, and coming back --------------------------------------------------------------------


@check("R5.12", "does not come back after `superseded`")
@check("R2.12", "fights for its place with nobody")
@check("R5.10", "stays away after a code that is final")
async def superseded(stage: PeerStage) -> None:
    async with stage.fresh() as peer:
        control = await peer.relay.registered()
        control.talk.say("error", code="superseded")
        control.talk.pipe.close()
        await peer.relay.nobody(1.0)


@check("R5.11", "comes back after what is said before a challenge, whatever its code")
async def nothing_is_final(stage: PeerStage) -> None:
    async with stage.fresh() as peer:
        for code in ("superseded", "not_admitted", "bad_guid"):
            control = await peer.relay.control()
            control.talk.say("error", code=code)
            control.talk.pipe.close()
        await peer.relay.registered()


@check("R5.12", "comes back after `not_admitted` that says when")
async def not_admitted_for_now(stage: PeerStage) -> None:
    async with stage.fresh() as peer:
        control = await peer.relay.registered()
        control.talk.say("error", code="not_admitted", retry_after=0.2)
        control.talk.pipe.close()
        await peer.relay.registered(seconds=20.0)


@check("R13.4", "takes a code that it does not know for `internal`, and comes back")
async def unknown_code(stage: PeerStage) -> None:
    async with stage.fresh() as peer:
        control = await peer.relay.registered()
        control.talk.say("error", code="of_a_later_version", reason="x")
        control.talk.pipe.close()
        await peer.relay.registered(seconds=20.0)


@check("R5.15", "stays away for as long as `retry_after` says")
async def retry_after(stage: PeerStage) -> None:
    async with stage.fresh() as peer:
        control = await peer.relay.registered()
        control.talk.say("error", code="limit_exceeded", retry_after=1.5)
        control.talk.pipe.close()
        began = time.monotonic()
        await peer.relay.arrival(20.0)
        if time.monotonic() - began < 1.4:
            raise Fault("has come back before the time that it was told")


@check("R5.27", "comes back after a restart, not before `delay`", slow=True)
async def restarting(stage: PeerStage) -> None:
    async with stage.fresh() as peer:
        # Nobody waits for the relay, and nobody has for a while: it may come sooner for them.
        control = await peer.relay.registered(SERVICE)
        await asyncio.sleep(4.0)
        control.talk.say("restarting", delay=1.0, spread=0.1)
        control.talk.pipe.close()
        began = time.monotonic()
        await peer.relay.arrival(20.0)
        if time.monotonic() - began < 0.9:
            raise Fault("has come back before the delay was over")


@check("R6.14", "goes above the number in force where its own is stale")
async def stale_sequence(stage: PeerStage) -> None:
    async with stage.fresh() as peer:
        control = await peer.relay.control()
        control.challenge()
        await control.proven()
        known = control.record["seq"] + 1_000_000
        control.talk.say("error", code="stale_sequence", seq=known)
        control.talk.pipe.close()
        again = await peer.relay.registered()
        if again.record["seq"] <= known:
            raise Fault(f"registers {again.record['seq']}, though {known} is in force")


# -- while it is registered -----------------------------------------------------------------------


@check("R7.33", "answers a ping with its number")
async def ping(stage: PeerStage) -> None:
    async with stage.registered() as peer:
        talk = peer.at_relay.talk
        for number in (0, 1, 70_000, 2**32 - 1):
            talk.say("ping", ping=number)
            await _pong(talk, number)
        talk.say("ping")
        await _pong(talk, 0)


@check("R7.36", "passes over messages of types that it does not know, however many")
async def unknown_types(stage: PeerStage) -> None:
    async with stage.registered() as peer:
        talk = peer.at_relay.talk
        for number in range(500):
            talk.say("of_a_later_version", number=number, more=[None, {"x": b"y"}])
        await _lives(talk)


@check("R5.17", "pings a relay that is silent for a heartbeat")
@check("R5.18", "leaves a relay that is silent for two, and comes back")
async def heartbeat(stage: PeerStage) -> None:
    async with stage.fresh() as peer:
        control = await peer.relay.control()
        control.challenge()
        await control.proven()
        control.confirm(heartbeat=0.5, lease=5.0)
        await control.talk.find("ping")
        await control.talk.closed("after two heartbeats of silence", 20.0)
        await peer.relay.registered(seconds=20.0)


@check("R5.16", "takes any byte for a sign of life, also of a message that is not whole")
async def signs_of_life(stage: PeerStage) -> None:
    async with stage.fresh() as peer:
        control = await peer.relay.control()
        control.challenge()
        await control.proven()
        control.confirm(heartbeat=1.0, lease=5.0)
        data = packed({"type": "ping", "ping": 7, "padding": "x" * 20})
        for byte in data[:10]:
            control.talk.pipe.send(bytes([byte]))
            await asyncio.sleep(0.25)
        control.talk.pipe.send(data[10:])
        await _pong(control.talk, 7)


@check("R5.22", "ends its control connection in order when it is closed")
async def leaves(stage: PeerStage) -> None:
    async with stage.fresh() as peer:
        control = await peer.relay.registered(SERVICE)
        peer.shut = True
        await stage.adapter.ask("shut", peer=peer.name)
        await control.talk.closed("when the peer is closed")
        if control.talk.pipe.was_reset:
            raise Fault("the connection was cut: the relay takes that for a loss")
