"""What a relay does with requests and watches: whom it asks, what it discloses, what it answers."""

import asyncio
import contextlib
import os

from peers.conformance.checks import Checks
from peers.conformance.credentials import own
from peers.conformance.faults import Fault, NotTried, within
from peers.conformance.peer_stage import Listener
from peers.conformance.pipes import TlsPipe
from peers.conformance.relay_stage import RELAY, Member, RelayStage, ended_with, located
from peers.conformance.talk import Map

__all__: list[str] = []

check: Checks[RelayStage] = RELAY


def _is(response: Map, code: str | None, what: str) -> None:
    if response.get("code") != code:
        raise Fault(f"{what} is answered with {response.get('code')}, not {code}")


# -- p2p ------------------------------------------------------------------------------------------


@check("R8.5", "answers in `p2p` from the registration, best entry first")
@check("R6.10", "gives entries by their phase and number")
async def p2p(stage: RelayStage) -> None:
    peer, caller = await stage.member(), await stage.member()
    entries = [
        peer.entry(port=4001, phase="new"),
        peer.entry(port=4002, seq=peer.seq - 1),
        peer.entry(port=4003),
    ]
    await peer.offer({"service": "chat", "entries": entries})
    response = await caller.request(peer.guid, "p2p")
    _is(response, None, "a request in `p2p`")
    if located(response) != [entries[number]["body"] for number in (2, 1, 0)]:
        raise Fault("the entries are other ones, or in another order")
    if response.get("state") != "online":
        raise Fault(f"the state is {response.get('state')}")


@check("R6.9", "gives nobody an entry that is leaving")
@check("R6.18", "leaves entries out in silence")
async def leaving(stage: RelayStage) -> None:
    peer, caller = await stage.member(), await stage.member()
    good = peer.entry()
    await peer.offer({"service": "chat", "entries": [peer.entry(port=1, phase="leaving"), good]})
    response = await caller.request(peer.guid, "p2p")
    if located(response) != [good["body"]]:
        raise Fault("other entries than the one that may be dialed are told")


@check("R6.16", "gives nobody an endpoint at which it has not met the peer")
async def unproven(stage: RelayStage) -> None:
    peer, caller = await stage.member(), await stage.member()
    victim = [peer.entry(host="192.0.2.1"), peer.entry(host="203.0.113.7", port=25)]
    own = peer.entry()
    await peer.offer({"service": "chat", "entries": [*victim, own]})
    response = await caller.request(peer.guid, "p2p")
    if located(response) != [own["body"]]:
        raise Fault("an endpoint is told that nobody has proven")
    await peer.offer({"service": "chat", "entries": victim})
    _is(await caller.request(peer.guid, "p2p"), "no_endpoint", "one without proven endpoints")


@check("R6.16", "discloses to whom a service says, and to nobody else")
@check("R8.6", "answers `refused` to whom nothing is disclosed")
async def disclosure(stage: RelayStage) -> None:
    peer, listed, other = Member(stage), await stage.member(), await stage.member()
    await peer.offering(disclose="listed", listed=[listed.guid])
    _is(await listed.request(peer.guid, "p2p"), None, "a request of one that is listed")
    response = await other.request(peer.guid, "p2p")
    _is(response, "refused", "a request of one that is not")
    if located(response):
        raise Fault("entries are told to one that is not listed")


@check("R8.2", "judges a request in the order of the page")
@check("R5.25", "says of one that has left its state and when it was last heard")
async def order(stage: RelayStage) -> None:
    peer, caller = await Member(stage).offering(), await stage.member()
    _is(await caller.request(Member(stage).guid, "p2p"), "unknown_peer", "nobody's GUID")
    response = await caller.request(peer.guid, "p2p", service="other")
    _is(response, "unknown_service", "a service that is not offered")
    gone = await Member(stage).offering()
    gone.here.pipe.close()
    await gone.here.closed("that the peer has left")
    response = await caller.request(gone.guid, "p2p", service="other")
    _is(response, "peer_offline", "one that has left")
    if response.get("state") != "offline" or not 0 <= response.get("last_seen", -1.0) < 60:
        raise Fault(f"of one that has left it says {response}")


@check("R7.3", "takes 52 characters that are no GUID for nobody's, in a request and a watch")
async def no_guid(stage: RelayStage) -> None:
    caller = await stage.member()
    for text in ("1" * 52, "A" * 52):
        _is(await caller.request(text, "p2p"), "unknown_peer", "what is no GUID")
        caller.here.say("watch", guid=text)
        event = await caller.here.find("peer_event", guid=text)
        if not _is_unknown(event) or event.get("code"):
            raise Fault(f"a watch of what is no GUID is answered with {event}")


def _is_unknown(event: Map) -> bool:
    """Whether an event is about a peer that the relay does not know: `offline`, or `suspect` while
    the relay has just started."""
    return event.get("last_seen") is None and event.get("state", "offline") in _NOT_HERE


_NOT_HERE = ("offline", "suspect")


@check("R7.2", "answers `bad_message` to a GUID of another length")
async def short_guid(stage: RelayStage) -> None:
    caller = await stage.member()
    caller.ask("a" * 51, "p2p")
    await ended_with(caller.here, "bad_message")


@check("R7.1", "answers `bad_message` to a field that is beyond its limit")
async def beyond_limits(stage: RelayStage) -> None:
    peer = await Member(stage).offering()
    faults: tuple[Map, ...] = (
        {"mode": "later"},
        {"session": bytes(15)},
        {"timeout": 0},
        {"timeout": 61},
        {"service": ""},
        {"service": "x" * 64},
        {"entries": [peer.entry()] * 17},
        {"resume": 1},
    )
    for more in faults:
        caller = await stage.member()
        caller.ask(peer.guid, **{"mode": "p2p", **more})
        said = await caller.here.closed("behind a field beyond its limit")
        codes = [one.get("code") for one in said if one.get("type") == "error"]
        if codes != ["bad_message"]:
            raise Fault(f"says {codes} to {more}")


# -- asking the callee ----------------------------------------------------------------------------


@check("R8.10", "passes entries both ways in `combined`")
@check("R7.16", "tells the callee who asks, for what")
async def combined(stage: RelayStage) -> None:
    callee, caller = await Member(stage).offering(), await Member(stage).offering()
    session = os.urandom(16)
    number = caller.ask(callee.guid, "combined", session=session, entries=[caller.entry()])
    entry = callee.entry(port=4005)
    asked = await callee.answer(entries=[entry, callee.entry(host="192.0.2.1")])
    wanted: Map = {"guid": caller.guid, "service": "chat", "mode": "combined", "session": session}
    for name, right in wanted.items():
        if asked.get(name) != right:
            raise Fault(f"`{name}` of the request is {asked.get(name)!r} (R7.16)")
    if located(asked) != [caller.entry()["body"]] or asked.get("ticket"):
        raise Fault("the request has not the caller's entry, and no ticket")
    response = await caller.here.find("service_response", request=number)
    _is(response, None, "an accepted request")
    if located(response) != [entry["body"]] or response.get("ticket"):
        raise Fault("the response has not the callee's proven entry alone, and no ticket")


@check("R8.11", "answers `no_endpoint` in `combined` where none can be disclosed")
async def no_endpoint(stage: RelayStage) -> None:
    callee, caller = await Member(stage).offering(), await stage.member()
    number = caller.ask(callee.guid, "combined")
    await callee.answer(entries=[callee.entry(host="192.0.2.1")])
    response = await caller.here.find("service_response", request=number)
    _is(response, "no_endpoint", "an answer without proven entries")


@check("R8.7", "gives each side a ticket in `central`, and nobody an address")
@check("R9.1", "makes tickets of 32 hexadecimal digits")
async def central(stage: RelayStage) -> None:
    callee, caller = await Member(stage).offering(), await Member(stage).offering()
    number = caller.ask(callee.guid, "central", entries=[caller.entry()])
    asked = await callee.answer(entries=[callee.entry()])
    response = await caller.here.find("service_response", request=number)
    _is(response, None, "an accepted request")
    if located(asked) or located(response):
        raise Fault("an address is told in `central`")
    tickets = [asked.get("ticket") or "", response.get("ticket") or ""]
    for ticket in tickets:
        if len(ticket) != 32 or set(ticket) - set("0123456789abcdef"):
            raise Fault(f"the ticket {ticket!r} (R9.1)")
    if tickets[0] == tickets[1]:
        raise Fault("both legs have one ticket (R9.1)")


@check("R8.19", "gives tickets and entries in `auto`, and no entries are no error")
async def auto(stage: RelayStage) -> None:
    callee, caller = await Member(stage).offering(), await Member(stage).offering()
    for entries in ([callee.entry()], []):
        number = caller.ask(callee.guid, "auto", entries=[caller.entry()])
        asked = await callee.answer(entries=entries)
        response = await caller.here.find("service_response", request=number)
        _is(response, None, "an accepted request")
        if not (asked.get("ticket") and response.get("ticket")):
            raise Fault("a side has no ticket")
        if located(asked) != [caller.entry()["body"]] or len(located(response)) != len(entries):
            raise Fault("the entries are not those of the other side")


@check("R7.15", "answers a request by exactly one response, with its number")
async def many_requests(stage: RelayStage) -> None:
    callee, caller = await Member(stage).offering(), await stage.member()
    numbers = [caller.ask(callee.guid, "combined") for _ in range(20)]
    asked = [await callee.here.find("service_request_from") for _ in numbers]
    for one in reversed(asked):
        callee.here.say("service_answer", request=one["request"], verdict="refused")
    told = [(await caller.here.find("service_response"))["request"] for _ in numbers]
    if sorted(told) != sorted(numbers):
        raise Fault("the numbers of the responses are not those of the requests")
    await caller.here.silence("behind the last response")


@check("R7.18", "passes the callee's refusal on, with its code and reason")
async def refused(stage: RelayStage) -> None:
    callee, caller = await Member(stage).offering(), await stage.member()
    for code in (None, "not_admitted", "limit_exceeded"):
        number = caller.ask(callee.guid, "combined")
        more = {} if code is None else {"code": code}
        await callee.answer("refused", reason="not now", **more)
        response = await caller.here.find("service_response", request=number)
        _is(response, code or "refused", "a refusal")
        if response.get("reason") != "not now":
            raise Fault(f"the reason is {response.get('reason')!r}")


@check("R7.19", "answers `unknown_request` to an answer that nobody waits for, and goes on")
async def unknown_request(stage: RelayStage) -> None:
    callee = await Member(stage).offering()
    callee.here.say("service_answer", request=4_000_000_000, verdict="accepted")
    await callee.here.find("error", code="unknown_request")
    callee.here.say("ping", ping=7)
    await callee.here.find("pong", ping=7)


@check("R8.4", "answers `request_timeout` for a callee that does not answer in time")
async def request_timeout(stage: RelayStage) -> None:
    callee, caller = await Member(stage).offering(), await stage.member()
    response = await caller.request(callee.guid, "combined", timeout=0.5)
    _is(response, "request_timeout", "a request that nobody answers")


@check("R8.4", "answers `peer_offline` where the callee goes before it has answered")
async def callee_goes(stage: RelayStage) -> None:
    callee, caller = await Member(stage).offering(), await stage.member()
    number = caller.ask(callee.guid, "combined")
    await callee.here.find("service_request_from")
    callee.here.pipe.abort()
    response = await caller.here.find("service_response", request=number)
    _is(response, "peer_offline", "a request whose callee has gone")


@check("R8.22", "passes a request for a next path on in every mode")
@check("R8.23", "asks for no service then: who is asked judges")
@check("R8.26", "gives tickets for a next path as for a first one")
async def next_path(stage: RelayStage) -> None:
    offering, other = await Member(stage).offering(), await Member(stage).offering("another")
    session = os.urandom(16)
    for mode in ("p2p", "combined", "central", "auto"):
        number = offering.ask(other.guid, mode, session=session, resume=True)
        asked = await other.answer("refused", code="session_unknown")
        if not asked.get("resume") or asked.get("mode") != mode or asked["session"] != session:
            raise Fault(f"passes {asked} on")
        if bool(asked.get("ticket")) != (mode in ("central", "auto")):
            raise Fault(f"in {mode} the ticket is {asked.get('ticket')!r} (R8.26)")
        response = await offering.here.find("service_response", request=number)
        _is(response, "session_unknown", f"a next path in {mode}")


@check(
    "R7.71",
    "passes an offer on as it is, both ways, between those who have named it, and to no other",
)
@check("R7.74", "passes an answer's on only where the request had one")
async def offers(stage: RelayStage) -> None:
    callee, caller = await Member(stage).offering(features=["offer"]), Member(stage)
    await caller.join(features=["offer"])
    if "offer" not in caller.challenge.get("features", ()):
        raise NotTried("the relay does not name `offer`")
    other = await stage.member()
    for asker, offer in ((caller, os.urandom(2048)), (caller, b""), (other, b"unnamed")):
        number = asker.ask(callee.guid, "central", offer=offer)
        answer = os.urandom(2048)
        asked = await callee.answer(offer=answer)
        response = await asker.here.find("service_response", request=number)
        _is(response, None, "a request with an offer")
        passed = asker is caller and bool(offer)
        if asked.get("offer", b"") != (offer if passed else b""):
            raise Fault("the callee gets another offer than the one that is for it")
        if response.get("offer", b"") != (answer if passed else b""):
            raise Fault("the caller gets another offer than the one that is for it (R7.74)")


# -- who is here ----------------------------------------------------------------------------------


@check("R5.22", "takes the end of a peer's stream for leaving")
async def leaving_at_once(stage: RelayStage) -> None:
    await _state_after(stage, "offline", cut=False)


@check("R5.23", "takes a reset for a loss")
@check("R5.21", "knows whom it has lost a moment ago as `suspect`")
async def loss(stage: RelayStage) -> None:
    await _state_after(stage, "suspect", cut=True)


async def _state_after(stage: RelayStage, state: str, *, cut: bool) -> None:
    peer, caller = await Member(stage).offering(), await stage.member()
    caller.here.say("watch", guid=peer.guid)
    event = await caller.here.find("peer_event", guid=peer.guid)
    if event.get("state") != "online" or event.get("seq") != peer.seq:
        raise Fault(f"of a peer that is here it says {event} (R7.21)")
    if cut:
        peer.here.pipe.abort()
    else:
        peer.here.pipe.close()
    event = await caller.here.find("peer_event", guid=peer.guid)
    if event.get("state", "offline") != state:
        raise Fault(f"the peer is {event.get('state', 'offline')}, not {state}")


@check("R7.21", "answers a watch at once, and tells of every change")
@check("R7.24", "says where a watched peer's record stands")
@check("R7.27", "says of a peer that was never here that it is not, or not yet")
async def watch(stage: RelayStage) -> None:
    watcher, peer = await stage.member(), Member(stage)
    watcher.here.say("watch", guid=peer.guid)
    event = await watcher.here.find("peer_event", guid=peer.guid)
    if not _is_unknown(event):
        raise Fault(f"of a peer that was never here it says {event} (R7.27)")
    await peer.offering()
    while event.get("seq", 0) < peer.seq:
        event = await watcher.here.find("peer_event", guid=peer.guid)
    if event.get("state") != "online":
        raise Fault(f"of a peer that has come it says {event}")
    await peer.offer({"service": "chat", "entries": [peer.entry(port=4001)]})
    event = await watcher.here.find("peer_event", guid=peer.guid)
    if event.get("seq") != peer.seq:
        raise Fault(f"of record {peer.seq} it says {event.get('seq')}")


@check("R7.22", "answers a second watch of one peer anew")
async def second_watch(stage: RelayStage) -> None:
    watcher, peer = await stage.member(), await Member(stage).offering()
    for _ in range(2):
        watcher.here.say("watch", guid=peer.guid)
        await watcher.here.find("peer_event", guid=peer.guid)
    watcher.here.say("watch", guid=peer.guid, watching=False)
    await peer.offer({"service": "chat"})
    await watcher.here.silence("behind a watch that was taken back", 1.2)


@check("R7.23", "ends a watch with its connection")
async def watches_end(stage: RelayStage) -> None:
    watcher, peer = await stage.member(), await Member(stage).offering()
    watcher.here.say("watch", guid=peer.guid)
    await watcher.here.find("peer_event", guid=peer.guid)
    again = Member(stage, watcher.identity, watcher.instance)
    again.seq = watcher.seq + 10
    await again.join()
    await peer.offer({"service": "chat"})
    await again.here.silence("on a connection that watches nobody", 1.2)


@check("R7.26", "lets nobody watch a peer that discloses nothing to him")
async def refused_watch(stage: RelayStage) -> None:
    watcher, peer = await stage.member(), await Member(stage).offering(disclose="nobody")
    watcher.here.say("watch", guid=peer.guid)
    event = await watcher.here.find("peer_event", guid=peer.guid)
    if event.get("code") != "refused":
        raise Fault(f"answers {event}")


@check("R7.28", "lets a connection watch 256 peers, and says `limit_exceeded` to the next")
async def too_many_watches(stage: RelayStage) -> None:
    watcher = await stage.member()
    guids = [Member(stage).guid for _ in range(257)]
    for guid in guids:
        watcher.here.say("watch", guid=guid)
    told = [await watcher.here.find("peer_event") for _ in guids]
    codes = [one.get("code") for one in told]
    if codes != [None] * 256 + ["limit_exceeded"]:
        raise Fault(f"the answers have the codes {set(codes)}, the last one {codes[-1]}")


# -- proving endpoints ----------------------------------------------------------------------------


@check("R6.17", "says nothing where it proves an endpoint")
async def silent_proof(stage: RelayStage) -> None:
    peer = await stage.member()
    host = "127.0.0.2" if peer.host == "127.0.0.1" else "127.0.0.1"
    async with Listener(host) as listener:
        entry = peer.entry(host=host, port=listener.port)
        await peer.offer({"service": "chat", "entries": [entry]})
        try:
            async with asyncio.timeout(2.0):
                pipe = await listener.next(4.0)
        except TimeoutError:
            raise NotTried("the relay does not dial this host's other addresses") from None
        async with within("TLS handshake of a relay that proves an endpoint"):
            data = await pipe.receive()
        if data[:1] != b"\x16":
            raise Fault(f"says {data[:40]!r} where a TLS handshake begins")


@check("R7.40", "says on demand whether it has met a peer's key at an endpoint")
@check("R7.43", "tries to meet it where it has not")
async def endpoint_query(stage: RelayStage) -> None:
    peer, asker = await Member(stage).offering(), Member(stage)
    await asker.connect()
    await asker.challenged(features=["endpoint-query"])
    if "endpoint-query" not in asker.challenge.get("features", ()):
        raise NotTried("the relay does not name `endpoint-query`")
    asker.register(asker.record())
    await asker.here.expect("registered")
    host = "127.0.0.2" if peer.host == "127.0.0.1" else "127.0.0.1"
    async with Listener(host) as listener:
        entry = peer.entry(host=host, port=listener.port)
        asker.here.say("endpoint_query", request=1, guid=peer.guid, entry=entry)
        try:
            async with asyncio.timeout(2.0):
                pipe = await listener.next(4.0)
        except TimeoutError:
            raise NotTried("the relay does not dial this host's other addresses") from None
        tls = TlsPipe(pipe, own(peer.identity), is_server=True)
        # It shows no certificate, so that the handshake is not done at this end.
        with contextlib.suppress(Fault):
            await tls.prove()
        answer = await asker.here.find("endpoint_response", request=1)
        if not answer.get("met"):
            raise Fault(f"answers {answer}, though the key has shown there")
        forged = {**entry, "signature": bytes(64)}
        asker.here.say("endpoint_query", request=2, guid=peer.guid, entry=forged)
        answer = await asker.here.find("endpoint_response", request=2)
        if answer.get("met") or answer.get("code") != "bad_signature":
            raise Fault(f"answers {answer} to an entry that is not the peer's (R7.42)")
