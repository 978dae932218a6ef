"""What a relay does with letters for peers who are away: whose it takes, how long it has them, in
which order it hands them over. Not tried where the relay does not name that it keeps letters.
"""

import itertools
import os
import time

from peers.conformance.checks import Checks
from peers.conformance.faults import Fault, NotTried
from peers.conformance.relay_stage import RELAY, Member, RelayStage
from peers.conformance.talk import Map

__all__: list[str] = []

check: Checks[RelayStage] = RELAY

FEATURES = ("mailbox",)
PREKEY = {"body": b"for all", "signature": bytes(64)}
"""A relay reads no prekey: it passes on what the recipient has signed."""

_requests = itertools.count(1)


async def _member(stage: RelayStage, who: Member | None = None) -> Member:
    """A peer that names the feature, as the relay does too."""
    member = await (who or Member(stage)).join(features=FEATURES)
    if "mailbox" not in member.challenge.get("features", ()):
        raise NotTried("the relay does not name `mailbox`")
    return member


async def _again(member: Member) -> Member:
    """The same peer, back after it was away."""
    member.here.pipe.close()
    await member.here.closed("that the peer has left")
    again = Member(member.stage, member.identity)
    again.seq = max(member.seq, time.time_ns() // 1_000_000)
    return await _member(member.stage, again)


async def _ask(member: Member, kind: str, answer: str, **fields: object) -> Map:
    request = next(_requests)
    member.here.say(kind, request=request, **fields)
    return await member.here.find(answer, request=request)


async def _takes(member: Member, **service: object) -> Map:
    """Say who may leave letters for a peer."""
    services = [{"service": "chat", **service}] if service else []
    prekey = PREKEY if services else None
    state = await _ask(member, "mailbox_update", "mailbox_state", services=services, prekey=prekey)
    _is(state, None, "a `mailbox_update`")
    return state


async def _leave(sender: Member, guid: str, name: bytes = b"", **changed: object) -> Map:
    fields = {
        "guid": guid,
        "service": "chat",
        "id": (name or os.urandom(8)).ljust(16, b"\0"),
        "sealed": bytes(512),
        "lifetime": 3600,
        **changed,
    }
    return await _ask(sender, "letter_leave", "letter_response", **fields)


async def _left(sender: Member, guid: str, name: bytes = b"", **changed: object) -> Map:
    """Leave a letter that has to be taken."""
    response = await _leave(sender, guid, name, **changed)
    _is(response, None, "a letter that may be left")
    return response


def _is(said: Map, code: str | None, what: str) -> None:
    if said.get("code") != code:
        raise Fault(f"{what} is answered with {said.get('code')}, not {code}")


async def _letters(recipient: Member, *names: bytes) -> list[Map]:
    """Expect exactly these letters, in this order."""
    found = []
    for name in names:
        letter = await recipient.here.find("letter")
        if letter.get("id", b"").rstrip(b"\0") != name:
            raise Fault(f"letter {letter.get('id')!r} comes where {name!r} is the next")
        found.append(letter)
    numbers = [letter["number"] for letter in found]
    if numbers != sorted(set(numbers)):
        raise Fault(f"the letters are numbered {numbers}")
    await recipient.here.silence("no letter more")
    return found


@check("R7.54", "takes letters from whom a service names, and from nobody else")
@check("R7.57", "tells what letters are sealed for only to who may leave one")
@check("R7.61", "refuses a letter that nobody takes, for good")
async def allowed(stage: RelayStage) -> None:
    recipient = await _member(stage)
    friend, other = await _member(stage), await _member(stage)
    await _takes(recipient, accept="listed", listed=[friend.guid])
    await _left(friend, recipient.guid)
    asking = {"guid": recipient.guid, "service": "chat"}
    prekey = await _ask(friend, "prekey_request", "prekey_response", **asking)
    _is(prekey, None, "the prekey request of one that may leave letters")
    if prekey.get("prekey") != PREKEY:
        raise Fault(f"gives another prekey: {prekey.get('prekey')}")
    for who, guid in ((other, recipient.guid), (friend, Member(stage).guid)):
        for said in (
            await _leave(who, guid),
            await _ask(who, "prekey_request", "prekey_response", guid=guid, service="chat"),
            await _leave(friend, recipient.guid, service="other"),
        ):
            _is(said, "letter_refused", "what nobody takes")
            if said.get("retry_after") is not None:
                raise Fault("says when to try again what is refused for good")


@check("R7.55", "holds who may leave letters to the last word, and while the peer is away")
async def replaced(stage: RelayStage) -> None:
    recipient, sender = await _member(stage), await _member(stage)
    _is(await _leave(sender, recipient.guid), "letter_refused", "of who has said nothing, a letter")
    await _takes(recipient, accept="anyone")
    recipient.here.pipe.close()
    await recipient.here.closed("that the peer has left")
    await _left(sender, recipient.guid)
    back = await _again(recipient)
    await _takes(back, accept="nobody")
    _is(await _leave(sender, recipient.guid), "letter_refused", "a letter after the last word")


@check("R7.56", "says how many letters wait, and how many prekeys are left")
@check("R7.58", "gives a prekey that is for one letter once, and then the one for all")
async def prekeys(stage: RelayStage) -> None:
    recipient, sender = await _member(stage), await _member(stage)
    single = [{"body": b"for one %d" % number, "signature": bytes(64)} for number in range(2)]
    services = [{"service": "chat", "accept": "anyone"}]
    state = await _ask(
        recipient,
        "mailbox_update",
        "mailbox_state",
        services=services,
        prekey=PREKEY,
        one_time=single,
    )
    if (state.get("code"), state.get("one_time"), state.get("letters", 0)) != (None, 2, 0):
        raise Fault(f"a `mailbox_update` with two prekeys for one letter is answered with {state}")
    asking = {"guid": recipient.guid, "service": "chat"}
    given = [
        (await _ask(sender, "prekey_request", "prekey_response", **asking)).get("prekey")
        for _ in range(3)
    ]
    if [one for one in given if one in single] != given[:2] or given[0] == given[1]:
        raise Fault("gives a prekey for one letter twice, or none of them")
    if given[2] != PREKEY:
        raise Fault("gives another prekey than the one for all, where the others are used")
    await _left(sender, recipient.guid)
    state = await _takes(recipient, accept="anyone")
    if (state.get("one_time", 0), state.get("letters")) != (0, 1):
        raise Fault(f"says {state} where one letter waits and no prekey for one is left")


@check("R7.59", "keeps a letter for who is away, and hands it over as it was left")
@check("R7.64", "hands letters over in the order in which they were left")
async def in_order(stage: RelayStage) -> None:
    recipient, sender = await _member(stage), await _member(stage)
    await _takes(recipient, accept="anyone")
    recipient.here.pipe.close()
    await recipient.here.closed("that the peer has left")
    names = [b"one", b"two", b"three"]
    sealed = os.urandom(1024)
    for name in names:
        await _left(sender, recipient.guid, name, sealed=sealed)
    back = await _again(recipient)
    await back.here.silence("no letter before a `letter_window`")
    back.here.say("letter_window", letters=8)
    for letter in await _letters(back, *names):
        told = letter.get("guid"), letter.get("service"), letter.get("sealed")
        if told != (sender.guid, "chat", sealed):
            raise Fault("a letter comes with another sender, service or seal than it was left with")


@check("R7.60", "takes a letter that is left again for the one that waits")
async def left_again(stage: RelayStage) -> None:
    recipient, sender = await _member(stage), await _member(stage)
    await _takes(recipient, accept="anyone")
    first = os.urandom(512)
    await _left(sender, recipient.guid, b"same", sealed=first)
    await _left(sender, recipient.guid, b"same", sealed=os.urandom(512))
    recipient.here.say("letter_window", letters=8)
    if (await _letters(recipient, b"same"))[0].get("sealed") != first:
        raise Fault("the second one has taken the place of the first")


@check("R7.61", "says for how long it keeps a letter, and no longer than was asked for")
async def kept(stage: RelayStage) -> None:
    recipient, sender = await _member(stage), await _member(stage)
    await _takes(recipient, accept="anyone")
    response = await _left(sender, recipient.guid, lifetime=60)
    if not 0 < response.get("lifetime", 0) <= 60:
        raise Fault(f"a letter for 60 s is kept for {response.get('lifetime')}")


@check("R7.62", "has no more letters on their way than the window says")
@check("R7.65", "forgets a letter that is done, and no other one")
async def window(stage: RelayStage) -> None:
    recipient, sender = await _member(stage), await _member(stage)
    await _takes(recipient, accept="anyone")
    names = [b"one", b"two", b"three", b"four"]
    for name in names:
        await _left(sender, recipient.guid, name)
    recipient.here.say("letter_window", letters=2)
    first, second = await _letters(recipient, *names[:2])
    # A number that does not wait is passed over.
    recipient.here.say("letter_done", numbers=[second["number"], second["number"] + 1_000_000])
    await _letters(recipient, names[2])
    back = await _again(recipient)
    back.here.say("letter_window", letters=8)
    again = await _letters(back, names[0], *names[2:])
    if again[0]["number"] != first["number"]:
        raise Fault("a letter has another number when it comes again")


@check("R7.62", "hands letters to the connection that has said its window last")
async def last_connection(stage: RelayStage) -> None:
    recipient, sender = await _member(stage), await _member(stage)
    await _takes(recipient, accept="anyone")
    recipient.here.say("letter_window", letters=8)
    second = Member(stage, recipient.identity, instance=recipient.instance)
    second.seq = recipient.seq
    await second.connect()
    await second.challenged(features=list(FEATURES), flow=1)
    second.register(second.record())
    second.registered = await second.here.expect("registered")
    second.here.say("letter_window", letters=8)
    # What was said before this is in force when it is answered.
    await _takes(second, accept="anyone")
    await _left(sender, recipient.guid, b"one")
    await _letters(second, b"one")
    await recipient.here.silence("no letter on the other connection")


@check("R7.64", "hands over no letter that has expired", slow=True)
async def expired(stage: RelayStage) -> None:
    recipient, sender = await _member(stage), await _member(stage)
    await _takes(recipient, accept="anyone")
    await _left(sender, recipient.guid, b"short", lifetime=1)
    await _left(sender, recipient.guid, b"long")
    await sender.here.silence("nothing while a letter expires", 1.5)
    recipient.here.say("letter_window", letters=8)
    await _letters(recipient, b"long")


@check("R7.70", "keeps a part of a mailbox for others than one stranger", slow=True)
async def shares(stage: RelayStage) -> None:
    """A stranger who may leave as many as it likes meets its share, or the rate; another one then
    has room."""
    recipient, stranger, other = [await _member(stage) for _ in range(3)]
    await _takes(recipient, accept="anyone", listed=[other.guid])
    for _ in range(_MANY):
        response = await _leave(stranger, recipient.guid)
        if response.get("code") is None:
            continue
        if response["code"] not in ("mailbox_full", "limit_exceeded"):
            raise Fault(f"a letter above the share is answered with {response['code']}")
        if response.get("retry_after") is None:
            raise Fault("does not say when to try again what there is no room for now")
        break
    else:
        raise Fault(f"one stranger leaves {_MANY} letters, and is never told that it is enough")
    await _left(other, recipient.guid, b"named")


_MANY = 5_000
