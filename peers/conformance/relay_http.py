"""What a relay does with HTTP requests: both carriers, what it refuses, and looking up."""

import json

from peers.conformance.checks import Checks
from peers.conformance.faults import Fault
from peers.conformance.frames import Kind
from peers.conformance.pipes import WebSocketPipe
from peers.conformance.relay_stage import NAMED, RAW, RELAY, WEBSOCKET, Member, RelayStage
from peers.conformance.talk import Talk, packed

__all__: list[str] = []

check: Checks[RelayStage] = RELAY


@check("R3.4", "switches to the raw byte stream")
async def raw(stage: RelayStage) -> None:
    answer = await stage.ask("/v1/control", *RAW)
    if answer.status != 101 or answer.headers.get("upgrade") != "roam-relay/1":
        raise Fault(f"status {answer.status}, `Upgrade: {answer.headers.get('upgrade')}`")


@check("R3.8", "switches to a WebSocket")
@check("R3.9", "names the protocol of a WebSocket that the client has named")
@check("R3.15", "uses no WebSocket extension")
async def websocket(stage: RelayStage) -> None:
    offer = "Sec-WebSocket-Extensions: permessage-deflate"
    answer = await stage.ask("/v1/control", *NAMED, offer)
    if answer.status != 101:
        raise Fault(f"status {answer.status}")
    if answer.headers.get("sec-websocket-protocol") != "roam-relay.1":
        raise Fault(f"names {answer.headers.get('sec-websocket-protocol')!r}")
    if "sec-websocket-extensions" in answer.headers:
        raise Fault("agrees to an extension (R3.15)")


@check("R3.9", "names no protocol to a client that has named none")
async def websocket_without_protocol(stage: RelayStage) -> None:
    answer = await stage.ask("/v1/control", *WEBSOCKET)
    if answer.status != 101 or "sec-websocket-protocol" in answer.headers:
        raise Fault(f"status {answer.status}, {answer.headers.get('sec-websocket-protocol')}")


@check("R3.10", "refuses a WebSocket of other protocols")
async def foreign_websocket(stage: RelayStage) -> None:
    answer = await stage.ask("/v1/control", *WEBSOCKET, "Sec-WebSocket-Protocol: chat, x")
    if (answer.status, answer.code) != (426, "upgrade_required"):
        raise Fault(f"status {answer.status} ({answer.code})")


@check("R3.19", "answers a request without an upgrade by 426, and names both upgrades")
@check("R3.18", "says the code of a refusal in its body and its header")
async def no_upgrade(stage: RelayStage) -> None:
    for headers in ((), ("Connection: Upgrade", "Upgrade: roam-relay/2")):
        answer = await stage.ask("/v1/control", *headers)
        if (answer.status, answer.code) != (426, "upgrade_required"):
            raise Fault(f"status {answer.status} ({answer.code}) (R3.19)")
        offered = answer.headers.get("upgrade", "")
        if "roam-relay/1" not in offered or "websocket" not in offered.lower():
            raise Fault(f"`Upgrade: {offered}` (R3.19)")


@check("R3.3", "registers a peer over each carrier")
async def both_carriers(stage: RelayStage) -> None:
    for headers in (RAW, NAMED):
        await Member(stage).join(headers=headers)


@check("R3.11", "takes the bytes of the stream in whatever WebSocket messages they come")
@check("R3.14", "takes WebSocket fragments and empty messages")
async def websocket_messages(stage: RelayStage) -> None:
    talk = (await Member(stage).join(headers=NAMED)).here
    pipe = talk.pipe
    if not isinstance(pipe, WebSocketPipe):
        raise Fault("no WebSocket")
    data = packed({"type": "ping", "ping": 7}) + packed({"type": "ping", "ping": 8})
    encode = pipe.frames.encode
    for piece in (
        encode(Kind.BINARY, data[:1]),
        encode(Kind.BINARY, b""),
        encode(Kind.BINARY, data[1:4], last=False),
        encode(Kind.PING, b"x"),
        encode(Kind.CONTINUATION, data[4:9], last=False),
        encode(Kind.CONTINUATION, b""),
        encode(Kind.BINARY, data[9:]),
    ):
        pipe.send_frames(piece)
    for number in (7, 8):
        await talk.find("pong", ping=number)


@check("R3.12", "ends a WebSocket with a message above 131,072 bytes")
async def large_websocket_message(stage: RelayStage) -> None:
    talk = (await Member(stage).join(headers=NAMED)).here
    talk.pipe.send(bytes(131_073))
    await talk.closed("behind a WebSocket message that is too large")


@check("R3.13", "ends a connection on which a text message comes")
async def text_message(stage: RelayStage) -> None:
    talk = (await Member(stage).join(headers=NAMED)).here
    pipe = talk.pipe
    if isinstance(pipe, WebSocketPipe):
        pipe.send_frames(pipe.frames.encode(Kind.TEXT, packed({"type": "ping"})))
    if any(one.get("type") == "pong" for one in await talk.closed("behind a text message")):
        raise Fault("answers what a text message brings")


@check("R3.16", "takes a close frame for the end of the stream")
async def close_frame(stage: RelayStage) -> None:
    watcher, going = await stage.member(), Member(stage)
    await going.join({"service": "chat"}, headers=NAMED)
    watcher.here.say("watch", guid=going.guid)
    await watcher.here.find("peer_event", guid=going.guid, state="online")
    going.here.pipe.close()
    await _gone(watcher.here, going.guid)


async def _gone(talk: Talk, guid: str) -> None:
    event = await talk.find("peer_event", guid=guid)
    if event.get("state", "offline") != "offline":
        raise Fault(f"a peer that has left is {event['state']}")


@check("R3.17", "answers pings of the WebSocket, the last of several at least")
async def websocket_ping(stage: RelayStage) -> None:
    answer = await stage.ask("/v1/control", *NAMED)
    pipe = answer.stream
    if not isinstance(pipe, WebSocketPipe):
        raise Fault("no WebSocket")
    for number in range(3):
        pipe.send_frames(pipe.frames.encode(Kind.PING, b"%d" % number))
    heard = b""
    while b"2" not in heard:
        data = await answer.pipe.receive()
        if not data:
            raise Fault("the stream ended where a pong should have come")
        heard += data


# -- looking up -----------------------------------------------------------------------------------


@check("R14.1", "tells over HTTP what may be disclosed to anyone")
@check("R14.2", "tells the best endpoint first")
async def lookup(stage: RelayStage) -> None:
    peer = await stage.member()
    entries = [peer.entry(port=4001, phase="new"), peer.entry(port=4002, phase="preferred")]
    await peer.offer({"service": "chat", "entries": entries})
    answer = await stage.ask(f"/v1/peers/{peer.guid}/services/chat")
    told = json.loads(answer.body)
    if (answer.status, told.get("guid"), told.get("state")) != (200, peer.guid, "online"):
        raise Fault(f"status {answer.status}: {told}")
    found = [(one["host"], one["port"], one["phase"]) for one in told["endpoints"]]
    if found != [(peer.host, 4002, "preferred"), (peer.host, 4001, "new")]:
        raise Fault(f"the endpoints are {found}")


@check("R14.4", "refuses over HTTP what is not known, and what is not for anyone")
async def lookup_refusals(stage: RelayStage) -> None:
    peer = await (Member(stage)).offering(disclose="nobody")
    stranger = Member(stage)
    for guid, service, code in (
        (stranger.guid, "chat", "unknown_peer"),
        (peer.guid, "other", "unknown_service"),
        (peer.guid, "chat", "unknown_service"),
    ):
        answer = await stage.ask(f"/v1/peers/{guid}/services/{service}")
        if (answer.status, answer.code) != (404, code):
            raise Fault(f"status {answer.status} ({answer.code}), not 404 ({code})")


@check("R3.1", "answers its health check")
async def health(stage: RelayStage) -> None:
    for target in ("/healthz", "/readyz", "/"):
        answer = await stage.ask(target)
        if answer.status != 200:
            raise Fault(f"{target}: status {answer.status}")
