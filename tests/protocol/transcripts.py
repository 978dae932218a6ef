"""Whole conversations with fixed nonces, and the arithmetic of paths and windows."""

import base64
from typing import Any

import msgpack
from msgspec import structs

from protocol.codec import encode, encode_location
from protocol.errors import Code
from protocol.features import SESSION_FEATURES
from protocol.identity import CONTEXT_CHALLENGE, CONTEXT_PLANE, CONTEXT_REGISTER, Identity
from protocol.messages import (
    EARLY_HEADER,
    Challenge,
    Error,
    Hello,
    LocationRecord,
    Message,
    Mode,
    PathHello,
    PathWelcome,
    Ping,
    Pong,
    Register,
    Registered,
    Update,
)
from protocol.session import SessionMachine, SessionSettings
from protocol.session.settings import MAX_PAYLOAD, MESSAGE_WEIGHT

__all__ = ["control", "path_numbers", "plane_request", "session", "windows"]

_UPGRADE = (
    "GET /v1/control HTTP/1.1\r\nHost: relay.example:8440\r\nConnection: Upgrade\r\n"
    "Upgrade: roam-relay/1\r\n\r\n"
)
_SWITCHED = (
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: roam-relay/1\r\nConnection: Upgrade\r\n\r\n"
)


def control(
    relay: Identity, peer: Identity, instance: bytes, nonces: tuple[bytes, bytes]
) -> list[dict[str, Any]]:
    """Return a control connection from its request to the answer of an update. `nonces` are the
    peer's and the relay's."""
    mine, theirs = nonces
    location = encode_location(LocationRecord(7))
    signed = relay.public_key, theirs, peer.public_key, instance, location
    challenge = relay.sign(CONTEXT_CHALLENGE, peer.public_key, mine, theirs)
    said: list[tuple[str, Message | bytes]] = [
        ("peer", Hello(peer.guid, instance, mine)),
        ("relay", Challenge(relay.guid, theirs, challenge)),
        ("peer", Register(location, peer.sign(CONTEXT_REGISTER, *signed))),
        ("relay", Registered(7, "192.0.2.1", 51_000, 15.0, 120.0)),
        ("peer", Ping(1)),
        ("relay", Pong(1)),
        ("peer", msgpack.packb({"type": "of_a_later_version", "x": 1})),
        ("relay", Error(Code.UNKNOWN_TYPE, "unknown type 'of_a_later_version'")),
        ("peer", Update(encode_location(LocationRecord(7)))),
        (
            "relay",
            Error(Code.STALE_SEQUENCE, "location record 7 is not newer than 7", seq=7),
        ),
        ("peer", Update(encode_location(LocationRecord(8)))),
        ("relay", Registered(8, "192.0.2.1", 51_000, 15.0, 120.0)),
    ]
    return [
        {"from": "peer", "text": _UPGRADE},
        {"from": "relay", "text": _SWITCHED},
        *(
            {
                "from": who,
                "type": msgpack.unpackb(data)["type"],
                "bytes": data.hex(),
            }
            for who, message in said
            for data in [message if isinstance(message, bytes) else encode(message)]
        ),
    ]


def plane_request(relay: Identity, bearer: Identity, ticket: str, early: bytes) -> dict[str, Any]:
    """Return a whole request for a leg."""
    signature = bearer.sign(CONTEXT_PLANE, relay.public_key, ticket.encode())
    sig = base64.urlsafe_b64encode(signature).decode().rstrip("=")
    line = f"GET /v1/plane/{ticket}?guid={bearer.guid}&signature={sig} HTTP/1.1"
    return {
        "relay": relay.guid,
        "bearer": bearer.guid,
        "ticket": ticket,
        "early": early.hex(),
        "request": "\r\n".join(
            (
                line,
                "Host: relay.example:8440",
                "Connection: Upgrade",
                "Upgrade: roam-relay/1",
                f"{EARLY_HEADER}: {base64.b64encode(early).decode()}",
                "",
                "",
            )
        ),
    }


class _Conversation:
    """Two machines, and what passes between them."""

    def __init__(self, window: int, *, revised: bool) -> None:
        self.steps: list[dict[str, Any]] = []
        self._revised = revised
        settings = SessionSettings(window=window)
        self._sides = {side: SessionMachine(settings, 0.0) for side in ("caller", "callee")}

    def path(self, hello: PathHello) -> None:
        """Begin on a path: the caller's hello, the callee's welcome."""
        features = SESSION_FEATURES if self._revised else ()
        caller, callee = self._sides.values()
        for name, machine, other, head in (
            ("caller", caller, callee, hello),
            ("callee", callee, caller, PathWelcome()),
        ):
            window = machine.settings.window
            said = structs.replace(
                head,
                received=machine.received,
                consumed=machine.consumed,
                partial=machine.partial if self._revised else 0,
                window=window,
                features=features,
            )
            self.steps.append({"from": name, "head": True, "bytes": encode(said).hex()})
            other.attach(
                machine.received,
                machine.consumed,
                window,
                0.0,
                partial=said.partial,
                revised=self._revised,
            )

    def do(self, side: str, what: str, message: bytes | None = None) -> None:
        """Let an application do something."""
        machine = self._sides[side]
        match what:
            case "send":
                assert message is not None
                machine.send(message)
            case "take":
                message = machine.take()
            case "finish":
                machine.finish(0.0)
            case _:
                machine.close(0.0)
        step: dict[str, Any] = {"side": side, "does": what}
        self.steps.append(step | ({"message": message.hex()} if message is not None else {}))

    def flush(self, side: str, *, arrives: bool = True, whole: bool = False) -> None:
        """Let one side write what it writes at once, or the `whole` of what it has."""
        machine = self._sides[side]
        data = machine.data_to_send(0.0)
        while whole and (more := machine.data_to_send(0.0)):
            data += more
        self.steps.append({"from": side, "bytes": data.hex(), "arrives": arrives})
        if arrives:
            other = "callee" if side == "caller" else "caller"
            self._sides[other].receive(data, 0.0)

    def cut(self) -> None:
        """The path is cut."""
        for machine in self._sides.values():
            machine.detach(0.0)
        self.steps.append({"cut": True})

    def states(self) -> None:
        """Say how both sides are now."""
        self.steps.append(
            {
                "now": {
                    side: {
                        "received": machine.received,
                        "consumed": machine.consumed,
                        "acknowledged": machine.acknowledged,
                        "state": machine.state.value,
                    }
                    for side, machine in self._sides.items()
                }
            }
        )


def session(session_id: bytes, *, revised: bool) -> dict[str, Any]:
    """Return a session in `p2p` with a cut, a resume, a resend and a close, in one revision."""
    said = _Conversation(1 << 20, revised=revised)
    hello = PathHello(session_id, "chat", Mode.P2P)
    said.path(hello)
    said.do("caller", "send", b"one")
    said.flush("caller")
    said.flush("callee")
    said.do("callee", "take")
    said.do("callee", "send", b"eins")
    said.do("callee", "send", b"zwei")
    said.flush("callee")
    said.flush("caller", arrives=False)
    said.do("caller", "send", bytes(range(250)) * 18)
    said.flush("caller")
    said.flush("callee", arrives=False)
    said.do("caller", "send", b"three")
    said.flush("caller", arrives=False)
    said.states()
    said.cut()
    said.path(structs.replace(hello, resume=True, path=2))
    said.flush("caller", whole=True)
    said.flush("callee")
    said.flush("caller")
    for side in ("callee", "callee", "caller", "caller"):
        said.do(side, "take")
    said.states()
    if revised:
        said.do("callee", "finish")
        said.flush("callee")
        said.do("caller", "send", b"four")
        said.flush("caller")
        said.flush("callee")
        said.do("callee", "take")
    said.do("caller", "close")
    for side in ("caller", "callee", "caller"):
        said.flush(side)
    said.states()
    return {"revision": 2 if revised else 1, "window": 1 << 20, "steps": said.steps}


def path_numbers() -> list[dict[str, Any]]:
    """Return of pairs of paths whether the second one is taken after the first."""
    offered = [(number, by) for number in (1, 2, 3) for by in ("caller", "callee")]
    return [
        {
            "taken": {"path": taken, "dialed_by": by},
            "offered": {"path": number, "dialed_by": other},
            "newer": number > taken or (number == taken and other == "caller" and by == "callee"),
        }
        for taken, by in ((1, "caller"), (2, "callee"), (2, "caller"))
        for number, other in offered
    ]


def windows() -> list[dict[str, Any]]:
    """Return of some messages, none of which was taken unless `taken` says so, what they weigh, and
    whether one more may begin."""
    cases = [
        (1024, 8 << 20, [], 0),
        (1024, 1024, [0] * 31, 0),
        (1024, 1024, [0] * 32, 0),
        (1024, 1024, [0] * 32, 1),
        (1 << 20, 1024, [991], 0),
        (1 << 20, 1024, [992], 0),
        (1024, 1 << 20, [MAX_PAYLOAD], 0),
        (1024, 1 << 20, [MAX_PAYLOAD], 1),
        (8 << 20, 8 << 20, [MAX_PAYLOAD] * 7, 0),
        (8 << 20, 8 << 20, [MAX_PAYLOAD] * 8, 0),
        (8 << 20, 8 << 20, [MAX_PAYLOAD] * 8, 1),
    ]
    return [
        {
            "windows": [here, there],
            "lengths": lengths,
            "weight": sum(lengths) + MESSAGE_WEIGHT * len(lengths),
            "taken": taken,
            "consumed": sum(lengths[:taken]) + MESSAGE_WEIGHT * taken,
            "may_begin": sum(lengths[taken:]) + MESSAGE_WEIGHT * (len(lengths) - taken)
            < min(here, there),
        }
        for here, there, lengths, taken in cases
    ]
