"""What a relay does on a control connection: the handshake, records, and what it refuses."""

import os
from typing import Any

from peers.conformance import vectors
from peers.conformance.checks import Checks
from peers.conformance.faults import Fault
from peers.conformance.relay_stage import RELAY, Member, RelayStage, ended_with
from peers.conformance.talk import Map, Talk, packed
from protocol.identity import CONTEXT_REGISTER, Identity, public_key_of

__all__: list[str] = []

check: Checks[RelayStage] = RELAY


async def _lives(talk: Talk) -> None:
    """The connection must answer."""
    number = int.from_bytes(os.urandom(4), "big") | 1
    talk.say("ping", ping=number)
    await talk.find("pong", ping=number)


# -- the handshake --------------------------------------------------------------------------------


@check("R5.2", "proves its key by its challenge")
async def challenge(stage: RelayStage) -> None:
    seen = []
    for _ in range(2):
        async with stage.greeted() as member:
            seen.append(member.challenge)
    if seen[0]["guid"] != seen[1]["guid"]:
        raise Fault("two connections are challenged by two identities")
    if seen[0]["nonce"] == seen[1]["nonce"]:
        raise Fault("the nonce of two challenges is the same")


@check("R7.12", "confirms a registration by its number")
async def registered(stage: RelayStage) -> None:
    member = await stage.member()
    told = member.registered
    if told.get("seq") != member.seq:
        raise Fault(f"confirms record {told.get('seq')}, not {member.seq}")
    for name in ("observed_host", "observed_port", "heartbeat", "lease"):
        if name not in told:
            raise Fault(f"`registered` has no {name}")


def _refused_hello(vector: dict[str, Any]) -> None:
    @check(str(vector["rule"]), f"answers `{vector['code']}` to {vector['what']} in a hello")
    async def refused_hello(stage: RelayStage) -> None:
        talk = await Member(stage).connect()
        talk.pipe.send(vectors.whole(vector))
        await ended_with(talk, str(vector["code"]))


for one in vectors.load()["refused_hellos"]:
    _refused_hello(one)


def _refused_bytes(vector: dict[str, Any]) -> None:
    @check("R4.10", f"answers `{vector['code']}` to {vector['what']}")
    async def refused_bytes(stage: RelayStage) -> None:
        talk = (await stage.member()).here
        talk.pipe.send(vectors.whole(vector))
        await ended_with(talk, str(vector["code"]))


for one in vectors.load()["refusals"]:
    _refused_bytes(one)


@check("R4.11", "answers `message_too_large` to a bin that takes a message over its limit")
async def large_bin(stage: RelayStage) -> None:
    for size in (65_536, 100_000):
        talk = (await stage.member()).here
        talk.say("ping", later=bytes(size))
        await ended_with(talk, "message_too_large")


async def _refused_register(stage: RelayStage, code: str, *, of: Map) -> None:
    async with stage.greeted() as member:
        relay, nonce = public_key_of(member.challenge["guid"]), member.challenge["nonce"]
        parts: Map = {
            "relay": relay,
            "nonce": nonce,
            "key": member.identity.public_key,
            "instance": member.instance,
            "location": member.record(),
        }
        signer: Identity = of.pop("signer", member.identity)
        signature = signer.sign(of.pop("context", CONTEXT_REGISTER), *{**parts, **of}.values())
        member.register(parts["location"], signature=signature)
        await ended_with(member.here, code)


@check("R5.9", "says the code of a fault, and ends the connection")
@check("R5.5", "registers nobody whose signature is another's, or over other parts")
@check("R2.5", "takes a register signature for one relay, nonce and record alone")
async def bad_signatures(stage: RelayStage) -> None:
    other = Identity.generate()
    for changed in (
        {"signer": other},
        {"relay": other.public_key},
        {"nonce": bytes(32)},
        {"key": other.public_key},
        {"instance": bytes(16)},
        {"location": b"\x80"},
        {"context": b"roam-relay/1 plane\0"},
    ):
        await _refused_register(stage, "bad_signature", of=dict(changed))


def _refused_entry(vector: dict[str, Any]) -> None:
    what = f"answers `{vector['code']}` to a record with an entry: {vector['what']}"

    @check(str(vector["rule"]), what)
    async def refused_entry(stage: RelayStage) -> None:
        member = Member(stage)
        # The vectors' entries are those of one key, whose program this is for the moment.
        [seed] = [
            one["seed"] for one in vectors.load()["identities"] if one["guid"] == vector["signer"]
        ]
        member.identity = Identity.from_seed(bytes.fromhex(seed))
        await member.connect()
        await member.challenged()
        entry = {
            "body": bytes.fromhex(vector["body"]),
            "signature": bytes.fromhex(vector["signature"]),
        }
        member.register(member.record({"service": "chat", "entries": [entry]}))
        await ended_with(member.here, str(vector["code"]))


for one in vectors.load()["refused_entries"]:
    _refused_entry(one)


@check("R6.3", "registers no record whose services are none, or named twice")
@check("R6.2", "registers no record with a number out of its bounds")
@check("R6.1", "registers no record that is more or less than one map")
async def refused_records(stage: RelayStage) -> None:
    for location in (
        b"",
        packed([]),
        packed({"seq": 1}) + b"\xc0",
        packed({}),
        packed({"seq": -1}),
        packed({"seq": 2**63}),
        packed({"seq": True}),
        packed({"seq": 1, "services": [{"service": "chat"}] * 2}),
        packed({"seq": 1, "services": [{"service": "Chat"}]}),
        packed({"seq": 1, "services": [{"service": "-chat"}]}),
        packed({"seq": 1, "services": [{"service": "x" * 64}]}),
        packed({"seq": 1, "services": [{"service": f"s{n}"} for n in range(17)]}),
        packed({"seq": 1, "services": [{"service": "chat", "disclose": "later"}]}),
        packed({"seq": 1, "services": [{"service": "chat", "listed": ["a" * 51]}]}),
        packed({"seq": 1, "services": [{"service": "chat", "listed": ["a" * 52] * 257}]}),
    ):
        async with stage.greeted() as member:
            member.register(location)
            await ended_with(member.here, "bad_message")


@check("R5.8", "answers `unexpected_message` to what comes before its time")
async def unexpected(stage: RelayStage) -> None:
    talk = await Member(stage).connect()
    talk.say("ping")
    await ended_with(talk, "unexpected_message")
    for early in ({"type": "update", "location": packed({"seq": 1})}, None):
        async with stage.greeted() as member:
            member.here.put(early or member.hello())
            await ended_with(member.here, "unexpected_message")


@check("R5.8", "answers a ping before the registration")
async def early_ping(stage: RelayStage) -> None:
    async with stage.greeted() as member:
        await _lives(member.here)


@check("R5.6", "ends a handshake that is not done in 10 s", slow=True)
async def slow_handshake(stage: RelayStage) -> None:
    async with stage.greeted() as member:
        await ended_with(member.here, "handshake_timeout", 20.0)


@check("R4.1", "reads messages in whatever pieces they come")
async def pieces(stage: RelayStage) -> None:
    member = Member(stage)
    talk = await member.connect()
    for byte in packed(member.hello()):
        talk.pipe.send(bytes([byte]))
        await talk.pipe.flush()
    await talk.expect("challenge")


@check("R4.9", "passes over keys that it does not know")
@check("R15.7", "passes over features that it does not know")
async def unknown_keys(stage: RelayStage) -> None:
    member = Member(stage)
    await member.connect()
    await member.challenged(later={"x": [None, 1.5]}, features=["of-a-later-version"])
    member.register(member.record(), later=1)
    await member.here.expect("registered")


def _tolerated(vector: dict[str, Any]) -> None:
    @check(str(vector["rule"]), f"takes a ping with {vector['what']}")
    async def tolerated(stage: RelayStage) -> None:
        talk = (await stage.member()).here
        talk.pipe.send(bytes.fromhex(vector["bytes"]))
        await talk.find("pong")


for one in vectors.load()["tolerated_messages"]:
    if b"ping" in bytes.fromhex(one["bytes"]):
        _tolerated(one)


@check("R13.2", "goes on behind a code that ends nothing")
@check("R15.2", "bears messages of a later version")
@check("R7.36", "answers `unknown_type` to types that it does not know, and goes on")
async def unknown_types(stage: RelayStage) -> None:
    talk = (await stage.member()).here
    for number in range(200):
        talk.say("of_a_later_version", number=number)
    for _ in range(200):
        await talk.find("error", code="unknown_type")
    await _lives(talk)


@check("R7.33", "answers a ping with its number")
async def ping(stage: RelayStage) -> None:
    talk = (await stage.member()).here
    for number in (1, 70_000, 2**32 - 1):
        talk.say("ping", ping=number)
        await talk.find("pong", ping=number)


@check("R6.5", "takes an entry with an element of a later version")
async def later_entry(stage: RelayStage) -> None:
    member = await stage.member()
    await member.offer({"service": "chat", "entries": [member.entry(later=[1])]})


# -- numbers, and who takes whose place -----------------------------------------------------------


@check("R6.12", "puts no record in force that is not newer, and says the number in force")
@check("R7.14", "answers updates in their order, each by one message")
async def updates(stage: RelayStage) -> None:
    member = await stage.member()
    talk, known = member.here, member.seq
    for seq in (known + 5, known + 5, known + 3, known + 6):
        talk.say("update", location=member.record(seq=seq))
    answers = [await talk.next("an answer to an update") for _ in range(4)]
    told = [(one["type"], one.get("code"), one.get("seq")) for one in answers]
    wanted = [
        ("registered", None, known + 5),
        ("error", "stale_sequence", known + 5),
        ("error", "stale_sequence", known + 5),
        ("registered", None, known + 6),
    ]
    if told != wanted:
        raise Fault(f"answers {told}, not {wanted}")
    await _lives(talk)


@check("R6.12", "ends a registration whose record is not newer, and says the number in force")
async def stale_register(stage: RelayStage) -> None:
    first = await stage.member()
    again = Member(stage, first.identity)
    await again.connect()
    await again.challenged()
    again.register(again.record(seq=first.seq))
    said = await again.here.closed("behind `stale_sequence`")
    told = [(one.get("code"), one.get("seq")) for one in said if one.get("type") == "error"]
    if told != [("stale_sequence", first.seq)]:
        raise Fault(f"says {told}, not stale_sequence and {first.seq}")


@check("R2.9", "lets the same flow of the same instance take the place of an older one")
@check("R2.10", "lets another instance take the place of all older connections")
@check("R2.11", "says `superseded` to the one whose place was taken, and ends it")
async def superseded(stage: RelayStage) -> None:
    first = await stage.member()
    for instance in (first.instance, os.urandom(16)):
        again = Member(stage, first.identity, instance)
        again.seq = first.seq + 10
        await again.join()
        await ended_with(first.here, "superseded")
        await _lives(again.here)
        first = again


@check("R2.8", "lets one instance have several flows")
@check("R2.13", "sends requests over the newest one")
@check("R2.14", "moves requests that wait to the next one when it is lost")
async def flows(stage: RelayStage) -> None:
    first = await Member(stage).offering()
    second = Member(stage, first.identity, first.instance)
    second.seq, second.registered = first.seq + 10, first.registered
    await second.connect()
    await second.challenged(flow=1)
    second.register(second.record({"service": "chat", "entries": [second.entry()]}))
    await second.here.expect("registered")
    await _lives(first.here)
    caller = await stage.member()
    number = caller.ask(first.guid, "combined")
    await second.here.find("service_request_from")
    second.here.pipe.abort()
    await first.answer(entries=[first.entry()])
    response = await caller.here.find("service_response", request=number)
    if response.get("code"):
        raise Fault(f"the request fails with {response['code']} when its flow is lost")
