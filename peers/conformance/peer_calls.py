"""What a peer does that opens a session: what it asks, whom it dials, and what it says there."""

from peers.conformance.calling import calling
from peers.conformance.checks import Checks
from peers.conformance.credentials import guid_in, own
from peers.conformance.end import DATA, End
from peers.conformance.faults import QUIET, Fault, NotTried
from peers.conformance.peer_stage import PEER, SERVICE, Listener, PeerStage, path_on
from peers.conformance.pipes import TlsPipe
from peers.conformance.played_relay import opened, signed_by
from peers.conformance.talk import Map, Talk, packed
from protocol.identity import Identity

__all__: list[str] = []

check: Checks[PeerStage] = PEER


# -- asking, and being told -----------------------------------------------------------------------


@check("R7.15", "asks by a request with all that belongs to it")
async def request(stage: PeerStage) -> None:
    modes = ("p2p", "central", "combined", "auto")
    direct = (await stage.standing()).ways.direct
    for mode in modes if direct else ("central", "auto"):
        async with calling(stage, mode) as call:
            asked = await call.asked()
            wanted = {"guid": call.callee.guid, "service": SERVICE, "mode": mode}
            for name, right in wanted.items():
                if asked.get(name) != right:
                    raise Fault(f"`{name}` is {asked.get(name)!r}, not {right!r}")
            if len(asked.get("session", b"")) != 16 or asked.get("resume", False):
                raise Fault("a first request has a session of 16 bytes, and no `resume`")
            if not 0 < asked.get("timeout", 10.0) <= 60:
                raise Fault(f"a timeout of {asked['timeout']}")
            if mode == "combined" and not asked.get("entries"):
                raise Fault("a caller in `combined` says where it is, as it discloses that")
            for signed in asked.get("entries", ()):
                if opened(call.peer.guid, signed)[1] != SERVICE:
                    raise Fault("names entries of another service than it asks for")
            call.respond(code="refused")
            await call.fails("the relay has refused it")


@check("R7.20", "fails by the code of the response")
async def refusals(stage: PeerStage) -> None:
    for code in ("unknown_peer", "unknown_service", "peer_offline", "refused", "no_endpoint"):
        async with calling(stage) as call:
            await call.asked()
            call.respond(code=code, reason="the kit says so")
            if (word := await call.fails(f"the relay has said `{code}`")) != code:
                raise Fault(f"fails with {word!r}, though the relay has said `{code}`")


@check("R13.4", "fails at a code that it does not know")
async def unknown_code(stage: PeerStage) -> None:
    async with calling(stage) as call:
        await call.asked()
        call.respond(code="of_a_later_version")
        await call.fails("the relay has refused it by a code of a later version")


@check("R7.20", "takes the answer to another request for none")
async def another_answer(stage: PeerStage) -> None:
    async with calling(stage) as call:
        asked = await call.asked()
        number = (asked["request"] + 1_000) % 2**32
        call.peer.at_relay.talk.say("service_response", request=number, code="refused")
        path, hello = await call.answered()
        call.welcome(path, hello)
        await call.outcome


# -- the path --------------------------------------------------------------------------------------


@check("R8.5", "dials in `p2p` what the relay has told")
@check("R10.10", "passes over session tickets of TLS")
@check("R10.2", "is TLS client where it dials")
async def p2p(stage: PeerStage) -> None:
    async with calling(stage, "p2p") as call:
        end = await call.opens()
        await call.do("send", message=b"hello".hex())
        await end.messages(1)


@check("R10.16", "says in its hello which session it is for")
async def first_hello(stage: PeerStage) -> None:
    async with calling(stage) as call:
        asked = await call.asked()
        path, hello = await call.answered()
        wanted: Map = {"session": asked["session"], "service": SERVICE, "mode": call.mode}
        for name, right in wanted.items():
            if hello.get(name) != right:
                raise Fault(f"`{name}` is {hello.get(name)!r} in the hello, not {right!r}")
        numbers = [hello.get(name, 0) for name in ("received", "consumed", "partial")]
        if numbers != [0, 0, 0] or hello.get("resume", False) or hello.get("path", 1) != 1:
            raise Fault(f"a first hello with {numbers}, path {hello.get('path', 1)}")
        end = call.welcome(path, hello)
        await call.outcome
        await call.do("send", message=b"hello".hex())
        if await end.messages(1) != [b"hello"]:
            raise Fault("another message came than was sent")
        end.send(b"hello back")
        if bytes.fromhex((await call.do("receive"))["message"]) != b"hello back":
            raise Fault("another message was received than was sent")


@check("R10.13", "sends nothing of the session before it is welcomed")
async def waits_for_welcome(stage: PeerStage) -> None:
    async with calling(stage) as call:
        await call.asked()
        path, hello = await call.answered()
        await path.silence("before the welcome")
        call.welcome(path, hello)
        await call.outcome


@check("R10.13", "takes frames that come right behind the welcome")
async def frames_behind_welcome(stage: PeerStage) -> None:
    async with calling(stage) as call:
        await call.asked()
        path, _ = await call.answered()
        path.put({"type": "path_welcome"}, [DATA, 1, [b"at once"]])
        await call.outcome
        if bytes.fromhex((await call.do("receive"))["message"]) != b"at once":
            raise Fault("a message right behind the welcome does not arrive")


@check("R10.7", "says no hello to another peer than it wants")
async def another_peer(stage: PeerStage) -> None:
    async with calling(stage, "p2p") as call:
        await call.asked()
        call.respond(entries=[call.entry])
        tls = TlsPipe(await call.listener.next(), own(Identity.generate()), is_server=True)
        try:
            guid_in(await tls.prove())
        except Fault:
            pass
        else:
            if said := await Talk(tls).closed("when another peer answers"):
                raise Fault(f"says {said[0]} to another peer than it wants")
        await call.fails("another peer has answered")


@check(
    "R6.19", "dials no entry that is not signed by the peer it asked for, or for another service"
)
async def forged_entries(stage: PeerStage) -> None:
    async with calling(stage, "p2p") as call, Listener() as victim:
        await call.asked()
        other = Identity.generate()
        forged = [
            signed_by(other, SERVICE, victim.port),
            {**signed_by(call.callee, SERVICE, victim.port), "signature": bytes(64)},
            signed_by(call.callee, "another", victim.port),
            signed_by(call.callee, SERVICE, victim.port, host="::ffff:127.0.0.1"),
        ]
        call.respond(entries=[*forged, call.entry])
        path, hello = await call.hello_on(await call.listener.next())
        call.welcome(path, hello)
        await call.outcome
        await victim.nobody(QUIET)


@check("R6.9", "dials no entry that is leaving for a new session")
async def leaving_entries(stage: PeerStage) -> None:
    async with calling(stage, "p2p") as call, Listener() as victim:
        await call.asked()
        leaving = signed_by(call.callee, SERVICE, victim.port, phase="leaving", seq=9)
        call.respond(entries=[leaving, call.entry])
        path, hello = await call.hello_on(await call.listener.next())
        call.welcome(path, hello)
        await call.outcome
        await victim.nobody(QUIET)


@check("R8.12", "tries the next entry where one does not answer")
async def next_entry(stage: PeerStage) -> None:
    async with calling(stage, "p2p") as call:
        await call.asked()
        async with Listener() as gone:
            nobody = signed_by(call.callee, SERVICE, gone.port, seq=9)
        call.respond(entries=[nobody, call.entry])
        path, hello = await call.hello_on(await call.listener.next())
        call.welcome(path, hello)
        await call.outcome


@check("R6.5", "takes an entry with an element of a later version")
async def later_entry(stage: PeerStage) -> None:
    async with calling(stage, "p2p") as call:
        await call.asked()
        call.respond(entries=[signed_by(call.callee, SERVICE, call.listener.port, later=[1])])
        path, hello = await call.hello_on(await call.listener.next())
        call.welcome(path, hello)
        await call.outcome


@check("R10.18", "opens no session where the callee rejects it")
async def rejected(stage: PeerStage) -> None:
    async with calling(stage) as call:
        await call.asked()
        path, _ = await call.answered()
        path.say("path_reject", code="refused", reason="the kit says so")
        path.pipe.close()
        await call.fails("the callee has rejected it")


@check("R8.10", "dials in `combined` what the callee has told")
async def combined(stage: PeerStage) -> None:
    async with calling(stage, "combined") as call:
        end = await call.opens()
        await call.do("send", message=b"x".hex())
        await end.messages(1)


@check("R8.16", "takes in `combined` the path that the callee dials")
async def callee_dials(stage: PeerStage) -> None:
    async with calling(stage, "combined") as call, Listener() as silent:
        asked = await call.asked()
        # Somebody takes the connection there, and never says anything.
        call.respond(entries=[signed_by(call.callee, SERVICE, silent.port)])
        where = [opened(call.peer.guid, signed) for signed in asked.get("entries", ())]
        host, port = next(((one[2], one[3]) for one in where if one[2] == "127.0.0.1"), (None, 0))
        if host is None:
            raise Fault("the request names no entry at 127.0.0.1 (R8.10)")
        pipe = await call.peer.dials.dial(host, port)
        path = Talk(await path_on(pipe, own(call.callee), call.peer.guid))
        end = End(SERVICE, revised=None)
        end.id, end.mode = asked["session"], "combined"
        await end.take(path)
        await call.outcome
        await call.do("send", message=b"x".hex())
        await end.messages(1)


# -- metadata -------------------------------------------------------------------------------------


@check("R10.61", "says its metadata in the hello of the first path, and there alone")
async def metadata(stage: PeerStage) -> None:
    word = b"what only the callee may read"
    async with calling(stage, metadata=word) as call:
        if word in packed(await call.asked()):
            raise Fault("tells the relay its metadata")
        path, hello = await call.answered()
        if "metadata" not in hello:
            raise NotTried("its adapter gives no metadata")
        if hello["metadata"] != word:
            raise Fault(f"`metadata` is {hello['metadata']!r}, not {word!r}")
        end = call.welcome(path, hello)
        await call.outcome
        end.path.pipe.abort()
        path, hello = await call.next_hello()
        if hello.get("metadata"):
            raise Fault("says its metadata again on a later path")
        path.say("path_welcome", **end.numbers())
        end.begin(path, hello)
        await call.do("send", message=b"x".hex())
        await end.messages(1)


@check("R10.61", "says its metadata in the welcome where the callee has dialed the first path")
async def metadata_in_the_welcome(stage: PeerStage) -> None:
    word = b"what only the callee may read"
    async with calling(stage, "combined", metadata=word) as call, Listener() as silent:
        asked = await call.asked()
        call.respond(entries=[signed_by(call.callee, SERVICE, silent.port)])
        where = [opened(call.peer.guid, signed) for signed in asked.get("entries", ())]
        host, port = next(((one[2], one[3]) for one in where if one[2] == "127.0.0.1"), (None, 0))
        if host is None:
            raise Fault("the request names no entry at 127.0.0.1 (R8.10)")
        pipe = await call.peer.dials.dial(host, port)
        path = Talk(await path_on(pipe, own(call.callee), call.peer.guid))
        end = End(SERVICE, revised=None)
        end.id, end.mode = asked["session"], "combined"
        await end.take(path)
        await call.outcome
        if "metadata" not in end.welcome:
            raise NotTried("its adapter gives no metadata")
        if end.welcome["metadata"] != word:
            raise Fault(f"`metadata` is {end.welcome['metadata']!r}, not {word!r}")
