"""`python -m benchmarks.costs ../before`: what this tree's relay spends on a registration, on a
plane and on a forwarded message, beside the relay of another checkout.

    git worktree add ../before 64fb51a
    .venv/bin/python -m benchmarks.costs ../before

Both relays run at once, and are used by turns, a short turn each. What is counted is the CPU time
of the relay's process as the scheduler has it, in nanoseconds. What the machine does besides
changes both turns of a pair alike, so that each pair gives one ratio. All stay on one core: a relay
whose clients run on another one is woken into cold caches, which costs it half as much again, and
which of the two comes about is chance. Where a process has its memory changes all its turns by some
percent, so that there are rounds of new processes: shown is the median of the rounds' medians, with
its interval. `python -m benchmarks.costs .` says how far from 1 the ratio of equal relays
is.
"""

import base64
import contextlib
import json
import math
import os
import socket
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from benchmarks.measure import Server, relay_server
from protocol.codec import MessageDecoder, encode, encode_location
from protocol.endpoint import Entry, Phase, Provenance, sign_entry
from protocol.identity import CONTEXT_PLANE, CONTEXT_REGISTER, Identity, public_key_of
from protocol.messages import (
    Challenge,
    Hello,
    LocationRecord,
    Message,
    Mode,
    Ping,
    Register,
    Registered,
    ServiceAnswer,
    ServiceRecord,
    ServiceRequestFrom,
    ServiceRequestTo,
    ServiceResponse,
    Verdict,
)
from protocol.tables import FROM_RELAY

ROOT = Path(__file__).parent.parent
_UNDER_WAY = 64
_TIMEOUT = 30.0
_LIFTED = {
    "connects_per_second": "1000000",
    "connects_burst": "1000000",
    "max_connections_per_address": "100000",
    "work_per_peer": "1",
    "work_per_network": "1",
    "work_in_all": "1",
}
"""As far as a checkout knows these keys: all comes from one address here."""


_RAW = "Upgrade: roam-relay/1\r\n"
_WEBSOCKET = (
    "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: roam-relay.1\r\n"
)


def _upgraded(server: Server, target: str, upgrade: str = _RAW) -> socket.socket:
    sock = socket.create_connection((server.host, server.port), _TIMEOUT)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(
        f"GET {target} HTTP/1.1\r\nHost: relay\r\nConnection: Upgrade\r\n{upgrade}\r\n".encode()
    )
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        if not (data := sock.recv(4096)):
            raise ConnectionError(f"refused: {head!r}")
        head += data
    if b" 101 " not in head.split(b"\r\n")[0]:
        raise ConnectionError(f"refused: {head!r}")
    return sock


class _Peer:
    """A registered peer, on a blocking socket: it does what it must, and nothing besides."""

    _upgrade = _RAW

    def __init__(self, server: Server, identity: Identity, seq: int) -> None:
        self.identity = identity
        self._decoder = MessageDecoder(FROM_RELAY)
        self._messages: list[Any] = []
        self._socket = _upgraded(server, "/v1/control", self._upgrade)
        instance = os.urandom(16)
        self.send(Hello(identity.guid, instance, os.urandom(32)))
        challenge = self.receive(Challenge)
        self.relay_key = public_key_of(challenge.guid)
        place = Entry(seq, "chat", "127.0.0.1", 9, Phase.PREFERRED, 120, Provenance.INTERFACE)
        self.entries = (sign_entry(identity, place),)
        location = encode_location(LocationRecord(seq, (ServiceRecord("chat", self.entries),)))
        signature = identity.sign(
            CONTEXT_REGISTER,
            self.relay_key,
            challenge.nonce,
            identity.public_key,
            instance,
            location,
        )
        self.send(Register(location, signature))
        self.receive(Registered)

    def send(self, *messages: Message) -> None:
        self._write(b"".join(map(encode, messages)))

    def _write(self, data: bytes) -> None:
        self._socket.sendall(data)

    def _read(self) -> bytes:
        return self._socket.recv(1 << 16)

    def receive(self, kind: type[Any]) -> Any:
        """Return the next message, which is of this kind."""
        while True:
            while not self._messages:
                if not (data := self._read()):
                    raise ConnectionError("the relay has closed the connection")
                self._messages += self._decoder.receive(data)
            message = self._messages.pop(0)
            if isinstance(message, kind):
                return message
            if not isinstance(message, Ping):
                raise ConnectionError(f"unexpected: {message}")

    def leg(self, server: Server, ticket: str) -> socket.socket:
        """Return this peer's leg of a plane."""
        proof = self.identity.sign(CONTEXT_PLANE, self.relay_key, ticket.encode())
        signature = base64.urlsafe_b64encode(proof).rstrip(b"=").decode()
        return _upgraded(
            server, f"/v1/plane/{ticket}?guid={self.identity.guid}&signature={signature}"
        )

    def close(self) -> None:
        self._socket.close()


class _FramedPeer(_Peer):
    """One on a WebSocket: what it says is a frame, masked by zeros, which is as good to a relay."""

    _upgrade = _WEBSOCKET

    def _write(self, data: bytes) -> None:
        size = len(data)
        head = bytes((0x82, 0x80 | size)) if size < 126 else b"\x82\xfe" + size.to_bytes(2, "big")
        self._socket.sendall(head + bytes(4) + data)

    def _read(self) -> bytes:
        data = self._socket.recv(1 << 16)
        # Each answer of a registration is one small frame, which comes whole.
        return data[4:] if data[1:2] == b"\x7e" else data[2:]


class Contender:
    """One relay, and two peers that are registered with it all the time."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._seq = 1
        self._caller, self._callee = (_Peer(server, Identity.generate(), 1) for _ in range(2))
        self._others = [Identity.generate() for _ in range(32)]

    def close(self) -> None:
        self._caller.close()
        self._callee.close()

    def spent(self) -> int:
        """Return the CPU time of the relay's threads so far, in nanoseconds."""
        tasks = Path(f"/proc/{self._server.pid}/task")
        return sum(int((one / "schedstat").read_text().split()[0]) for one in tasks.iterdir())

    def registration(self) -> None:
        """A peer comes, registers one service, and goes."""
        self._seq += 1
        _Peer(self._server, self._others[self._seq % len(self._others)], self._seq).close()

    def framed_registration(self) -> None:
        """The same on a WebSocket."""
        self._seq += 1
        _FramedPeer(self._server, self._others[self._seq % len(self._others)], self._seq).close()

    def plane(self) -> None:
        """A plane is asked for, both legs come, a byte goes each way, and both go."""
        request, ticket = self._ask(Mode.CENTRAL, 1)[0]
        self._callee.send(ServiceAnswer(request, Verdict.ACCEPTED))
        answer = self._caller.receive(ServiceResponse)
        with (
            self._caller.leg(self._server, answer.ticket) as one,
            self._callee.leg(self._server, ticket) as other,
        ):
            for source, target in ((one, other), (other, one)):
                source.sendall(b"x")
                target.recv(1)

    def messages(self) -> None:
        """Requests in mode combined that wait at once, and their answers."""
        asked = self._ask(Mode.COMBINED, _UNDER_WAY)
        entries = self._callee.entries
        self._callee.send(
            *(ServiceAnswer(request, Verdict.ACCEPTED, "", entries) for request, _ in asked)
        )
        for _ in asked:
            answer = self._caller.receive(ServiceResponse)
            if answer.code is not None:
                raise ConnectionError(f"refused: {answer}")

    def _ask(self, mode: Mode, many: int) -> list[tuple[int, str]]:
        """Have the callee asked; return the requests' numbers and tickets there."""
        caller, guid = self._caller, self._callee.identity.guid
        entries = () if mode is Mode.CENTRAL else caller.entries
        caller.send(
            *(
                ServiceRequestTo(number, guid, "chat", mode, os.urandom(16), entries)
                for number in range(many)
            )
        )
        asked = (self._callee.receive(ServiceRequestFrom) for _ in range(many))
        return [(one.request, one.ticket) for one in asked]


@dataclass(frozen=True)
class Work:
    """Something that a relay does, and how often in a turn."""

    name: str
    once: Callable[[Contender], None]
    many: int
    counts: int = 1
    """What is shown is for one of so many."""


WORKS = (
    Work("connect, register and leave", Contender.registration, 60),
    Work("the same by WebSocket", Contender.framed_registration, 60),
    Work("plane, from the request to its end", Contender.plane, 40),
    Work("forwarded message", Contender.messages, 40, 2 * _UNDER_WAY),
)


def turn(contender: Contender, work: Work) -> float:
    """Return the microseconds of one, in one turn."""
    before = contender.spent()
    for _ in range(work.many):
        work.once(contender)
    return (contender.spent() - before) / work.many / work.counts / 1e3


def middle(values: list[float]) -> tuple[float, float, float]:
    """Return the median, and the ends of its interval: order statistics, whatever the
    distribution; of 95 % where there are enough, else the lowest and the highest."""
    ordered, many = sorted(values), len(values)
    below = max(0, math.floor(many / 2 - 0.98 * math.sqrt(many)) - 1)
    return statistics.median(ordered), ordered[below], ordered[many - 1 - below]


@contextlib.contextmanager
def contending(checkout: Path) -> Iterator[Contender]:
    """Run the relay of a checkout."""
    known = (checkout / "relay" / "config.py").read_text()
    lifted = {
        f"ROAM_RELAY_{key.upper()}": value
        for key, value in _LIFTED.items()
        if f"    {key}: " in known
    }
    # The folder that this is started in would go first on the path.
    path = {"PYTHONPATH": str(checkout), "PYTHONSAFEPATH": "1"}
    with relay_server(lifted | path) as server:
        contender = Contender(server)
        try:
            yield contender
        finally:
            contender.close()


def _round(before: Path, turns: int, work: Work) -> Iterator[tuple[float, float]]:
    """Yield what two new relays have spent, the other checkout's first, for each pair of turns."""
    with contending(before) as old, contending(ROOT) as new:
        for number in range(-2, turns):
            # Who is first changes: a second turn finds the machine as the first has left it.
            order = (old, new) if number % 2 else (new, old)
            spent = {one: turn(one, work) for one in order}
            if number >= 0:  # The first ones warm up.
                yield spent[old], spent[new]


def measure(before: Path, rounds: int, turns: int, work: Work) -> dict[str, Any]:
    """Return the microseconds of both, and their ratio."""
    spent: tuple[list[float], list[float]] = ([], [])
    ratios = []
    for _ in range(rounds):
        pairs = list(_round(before, turns, work))
        for side, values in zip(spent, zip(*pairs, strict=True), strict=True):
            side.append(statistics.median(values))
        ratios.append(statistics.median(new / old for old, new in pairs))
    ratio, low, high = middle(ratios)
    return {
        "work": work.name,
        "before": statistics.median(spent[0]),
        "now": statistics.median(spent[1]),
        "ratio": ratio,
        "low": low,
        "high": high,
    }


@click.command()
@click.argument("before", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--rounds", default=8, show_default=True, help="Of two new relays each.")
@click.option("--turns", default=12, show_default=True, help="Of each relay in a round.")
@click.option("--only", default="", help="The works whose names begin so.")
def main(before: Path, as_json: bool, rounds: int, turns: int, only: str) -> None:
    """Compare the relay's CPU time with that of another checkout's relay."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    works = [work for work in WORKS if work.name.startswith(only)]
    rows = [measure(before.resolve(), rounds, turns, work) for work in works]
    if as_json:
        json.dump(rows, sys.stdout, indent=1)
        return
    print("the relay's CPU, in µs: before, now, and their ratio with its interval")
    for row in rows:
        print(
            "  {work:36}{before:9.1f}{now:9.1f}{ratio:8.3f}  ({low:.3f} to {high:.3f})".format(
                **row
            )
        )


if __name__ == "__main__":
    main()
