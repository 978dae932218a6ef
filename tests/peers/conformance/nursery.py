"""Parties with a fault planted in them: this library's own peer and relay, as patched processes.

Importing both takes longer than all that a check does, so that it is done once: this program waits
on a UNIX socket for who wants a party, takes its standard streams and the fault's name, and forks.
What the kit starts is `door.py`, which hands its own streams over and lives as long as the party.
"""

import array
import asyncio
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import msgpack
from msgspec import structs

from peers.conformance import own
from peers.control import handshake, message_stream, pin, refusal
from peers.dialing import Passage
from peers.location.told import OwnLocation
from peers.path.end import PathEnd, PathUser
from peers.roaming import incoming, locks
from peers.roaming.closed import ClosedSessions
from peers.session import end
from peers.session.end import SessionEnd
from protocol import endpoint, first_flight, lock
from protocol.errors import Code
from protocol.first_flight import Opened
from protocol.identity import CONTEXT_REGISTER, Identity, guid_of
from protocol.messages import Pong
from protocol.session import machine as machines
from protocol.session.frames import Frame
from protocol.session.incoming import Incoming
from protocol.session.machine import SessionMachine
from protocol.session.outgoing import Outgoing
from relay.config import RelayConfig
from relay.control import connection
from relay.control import handshake as relay_handshake
from relay.control.connection import ControlConnection as RelayConnection
from relay.http import answers, page, plane
from relay.mailbox import mailbox, store
from relay.plane import joining, tickets
from relay.presence import registry
from relay.server import RelayServer

Fault = Callable[[], None]


def plant(owner: Any, name: str, wrong: Any) -> Any:
    """Put what is wrong in the place of what is right; return that. It must be there: a fault that
    is planted beside its place shows nothing."""
    right = getattr(owner, name)
    setattr(owner, name, wrong)
    return right


def nothing() -> None:
    """Plant nothing."""


def by_relays_and_noise_alone() -> None:
    """No fault, but what a page is: no direct paths, and no TLS."""
    right = own.PeerConfig

    def config(**given: Any) -> Any:
        return right(**given, locks=(lock.Lock.NOISE,), policy="only relayed")

    plant(own, "PeerConfig", config)
    plant(OwnLocation, "entries", lambda *_, **__: ())


# -- of a peer ------------------------------------------------------------------------------------


def skips_nothing() -> None:
    """Takes again what came before."""
    right = Incoming.data

    def wrong(self: Incoming, first: int, payloads: list[Any]) -> bool:
        return right(self, self.received + 1 if 1 <= first <= self.received else first, payloads)

    plant(Incoming, "data", wrong)


def _ack(change: Callable[[int], int]) -> None:
    right = machines.pack

    def wrong(value: Any) -> bytes:
        if value[0] == Frame.ACK:
            value = (Frame.ACK, change(value[1]), *value[2:])
        return right(value)

    plant(machines, "pack", wrong)


def acknowledges_too_much() -> None:
    """Acknowledges a message that was never sent."""
    _ack(lambda received: received + 1)


def acknowledges_too_little() -> None:
    """Never acknowledges the last message."""
    _ack(lambda received: max(received - 1, 0))


def answers_no_ping() -> None:
    """Answers no ping of a session."""
    right = SessionMachine._say

    def wrong(self: SessionMachine, kind: Frame, *fields: object) -> None:
        if kind is not Frame.PONG:
            right(self, kind, *fields)

    plant(SessionMachine, "_say", wrong)


def believes_any_relay() -> None:
    """Does not look at the signature of a challenge."""
    plant(handshake, "verify", lambda *given: None)


def signs_another_nonce() -> None:
    """Registers with a signature that does not hold the relay's nonce."""
    right = Identity.sign

    def wrong(self: Identity, context: bytes, *parts: bytes) -> bytes:
        if context == CONTEXT_REGISTER:
            parts = (parts[0], bytes(32), *parts[2:])
        return right(self, context, *parts)

    plant(Identity, "sign", wrong)


def pongs_without_a_number() -> None:
    """Does not echo the number of a ping of the relay."""
    plant(message_stream, "Pong", lambda number: Pong())


def takes_any_callee() -> None:
    """Says hello to whoever answers at an endpoint."""

    async def wrong(self: PathEnd, guid: str, timeout: float, flight: object = None) -> float:
        async with asyncio.timeout(timeout):
            await self._start()
        self._round_trip = self.usual_round_trip = 0.001
        return 0.001

    plant(PathEnd, "prove", wrong)


def dials_unsigned_entries() -> None:
    """Does not look at the signatures of entries."""
    plant(endpoint, "verify", lambda *given: None)


def gives_sessions_away() -> None:
    """Does not look whose a session is."""
    right = incoming.judge_path

    def wrong(hello: Any, kind: Any, guid: str, known: Any, listener: Any) -> Any:
        return right(hello, kind, known.terms.remote if known else guid, known, listener)

    plant(incoming, "judge_path", wrong)


def takes_older_paths() -> None:
    """Does not look at the number of a path."""
    plant(SessionEnd, "would_take", lambda self, number, *, dialed_here: True)


def sends_nothing_again() -> None:
    """Forgets at a new path what was on its way."""
    right = Outgoing.begin

    def wrong(self: Outgoing, **given: Any) -> None:
        in_flight = list(self._in_flight)
        self._in_flight.clear()
        right(self, **given)
        self._in_flight.extend(in_flight)

    plant(Outgoing, "begin", wrong)


def ignores_the_window() -> None:
    """Sends whatever the other side can hold."""
    plant(SessionMachine, "writable", property(lambda self: True))


def keeps_half_a_frame() -> None:
    """Reads on, on a new path, where the old one was cut."""
    right = SessionMachine.attach

    def wrong(self: SessionMachine, *given: Any, **more: Any) -> None:
        reader, begun = self._reader, self._revised is not None
        right(self, *given, **more)
        if begun:
            self._reader = reader

    plant(SessionMachine, "attach", wrong)


def forgets_parts() -> None:
    """Forgets at a new path the parts of a message."""
    right = SessionMachine.attach

    def wrong(self: SessionMachine, *given: Any, **more: Any) -> None:
        self._incoming.drop()
        right(self, *given, **more)

    plant(SessionMachine, "attach", wrong)


def cuts_paths() -> None:
    """Cuts a path in place of closing it."""
    plant(PathEnd, "finish", PathEnd.abort)


def lingers_not() -> None:
    """Knows nothing of a session that has closed."""
    plant(ClosedSessions, "find", lambda self, session_id, now: None)


def comes_back_superseded() -> None:
    """Fights for its place."""
    refusal.FINAL[refusal.Phase.HANDSHAKE] -= {Code.SUPERSEDED}
    refusal.FINAL[refusal.Phase.REGISTERED] -= {Code.SUPERSEDED}


def sends_early_to_anybody() -> None:
    """Sends data behind its hello, whatever the other side has named."""
    plant(SessionEnd, "early", lambda self: self._machine.early(self._loop.time()))


def follows_any_chain() -> None:
    """Follows a relay to whatever key it names."""
    plant(
        pin,
        "follow",
        lambda pinned, links, known=(): tuple(guid_of(one[:32]) for one in links),
    )


def shows_its_invitation_to_anybody() -> None:
    """Shows its invitation also where no relay has asked."""
    right = handshake.Handshake._invitation

    def wrong(self: handshake.Handshake, challenge: Any) -> bytes:
        return right(self, structs.replace(challenge, invitation=True))

    plant(handshake.Handshake, "_invitation", wrong)


def drops_what_is_early() -> None:
    """Passes over what stands behind a hello."""
    right = PathEnd.carry

    def wrong(self: PathEnd, user: PathUser) -> None:
        if not self._channel.is_client:
            self._early.clear()
        right(self, user)

    plant(PathEnd, "carry", wrong)


def follows_no_number() -> None:
    """Registers with its own numbers, whatever is in force."""
    plant(OwnLocation, "advance", lambda self, seq: False)


def sends_flights_to_anybody() -> None:
    """Seals a flight for whoever listens, whatever the other side has named."""
    plant(end, "FIRST_FLIGHT", "session-2")


def sends_flights_anywhere() -> None:
    """Sends a flight also where the other side was not met."""
    right = Passage.__init__

    def wrong(self: Passage, *given: Any, is_met: bool = False) -> None:
        right(self, *given, is_met=True)

    plant(Passage, "__init__", wrong)


def takes_old_flights() -> None:
    """Looks at no number in a flight."""
    plant(SessionEnd, "would_take", lambda self, number, *, dialed_here: True)


def answers_with_the_same_key() -> None:
    """Seals its answer as if it were a flight."""

    def wrong(self: Opened, random: bytes, plain: bytes) -> bytes:
        cipher = self.secret.cipher(random, here=True, answers=False)
        return first_flight._sealed(cipher, self.secret.id, random, plain)

    plant(Opened, "answer", wrong)


def prefers_noise() -> None:
    """Chooses the lock that stands last."""
    plant(locks, "chosen_of", lambda offered, taken: [*(offered or ("tls",))][-1])


def looks_at_no_proof() -> None:
    """Does not look at the signature behind a handshake of Noise."""
    plant(lock, "verify", lambda *given: None)


PEER_FAULTS: dict[str, tuple[Fault, str, str]] = {
    "nothing": (nothing, "", ""),
    "by relays and noise alone": (by_relays_and_noise_alone, "", ""),
    "follows any chain": (follows_any_chain, "R7.51", "wants the relay"),
    "shows its invitation to anybody": (
        shows_its_invitation_to_anybody,
        "R7.8",
        "to a relay that has not asked",
    ),
    "skips nothing": (skips_nothing, "R11.17", "what comes twice is"),
    "acknowledges too much": (
        acknowledges_too_much,
        "R11.29",
        "2 messages are acknowledged",
    ),
    "acknowledges too little": (
        acknowledges_too_little,
        "R11.18",
        "no acknowledgement of",
    ),
    "answers no ping": (answers_no_ping, "R11.7", "no `pong`"),
    "believes any relay": (
        believes_any_relay,
        "R5.3",
        "behind a challenge that proves",
    ),
    "signs another nonce": (signs_another_nonce, "R5.4", "the register signature does not hold"),
    "pongs without a number": (pongs_without_a_number, "R7.33", "ping 1 is answered with 0"),
    "takes any callee": (
        takes_any_callee,
        "R10.7",
        "when another peer answers",
    ),
    "dials unsigned entries": (
        dials_unsigned_entries,
        "R6.19",
        "dials an endpoint that",
    ),
    "gives sessions away": (gives_sessions_away, "R10.20", "`path_welcome` where `path_reject`"),
    "sends early to anybody": (sends_early_to_anybody, "R10.34", "before the welcome"),
    "drops what is early": (drops_what_is_early, "R10.36", "no acknowledgement of message 3"),
    "takes older paths": (takes_older_paths, "R10.26", "`path_welcome` where `path_reject`"),
    "sends nothing again": (sends_nothing_again, "R11.51", "no message 3"),
    "ignores the window": (ignores_the_window, "R11.34", "5 messages of 532 are on their way"),
    "keeps half a frame": (keeps_half_a_frame, "R11.49", "an abort (bad_message"),
    "forgets parts": (forgets_parts, "R11.24", "0 bytes of a message are here, not 6000"),
    "cuts paths": (cuts_paths, "R10.11", "the path was cut, and not closed in order"),
    "does not linger": (lingers_not, "R11.67", "`path_reject` (session_unknown)"),
    "comes back superseded": (
        comes_back_superseded,
        "R5.12",
        "has come back",
    ),
    "sends flights to anybody": (sends_flights_to_anybody, "R10.50", "who has not named"),
    "sends flights anywhere": (sends_flights_anywhere, "R10.56", "not met before"),
    "takes old flights": (takes_old_flights, "R10.57", "whose number is old"),
    "answers with the same key": (answers_with_the_same_key, "R10.54", "its key does not open"),
    "follows no number": (follows_no_number, "R6.14", "is in force"),
    "prefers Noise": (prefers_noise, "R18.2", "chooses 'noise' of"),
    "looks at no proof": (looks_at_no_proof, "R18.15", "no end of a path whose caller signs"),
}
"""Each fault, the rule that it breaks, and what the kit says of it."""


# -- of a relay -----------------------------------------------------------------------------------


def no_code_header() -> None:
    """Refuses without the code in a header."""
    plant(answers, "CODE_HEADER", "X-Nothing")


def registers_anybody() -> None:
    """Does not look at the signature of a registration."""
    plant(relay_handshake, "verify", lambda *given: None)


def discloses_everything() -> None:
    """Tells endpoints that nobody has proven."""
    plant(registry.RegisteredPeer, "proven", lambda self, entry: True)


def takes_old_records() -> None:
    """Puts a record in force whatever its number is."""
    plant(registry, "check_newer", lambda seq, known: None)


def admits_twice() -> None:
    """Takes a ticket whoever shows it."""
    plant(joining.Planes, "_check_bearer", lambda self, *given: None)


def drops_early_bytes() -> None:
    """Forgets what has come with the request for a leg."""
    right = joining.Planes._attach

    def wrong(self: joining.Planes, *given: Any) -> None:
        right(self, *given[:-1], b"")

    plant(joining.Planes, "_attach", wrong)


def takes_loss_for_leaving() -> None:
    """Takes a reset for the peer's own end."""
    right = RelayConnection.carrier_lost
    plant(RelayConnection, "carrier_lost", lambda self, reason: right(self, "peer_closed"))


def ends_at_unknown_types() -> None:
    """Ends a connection on which a message of a later version comes."""

    def wrong(self: RelayConnection, message: Any, now: float) -> None:
        self.end(Code.UNKNOWN_TYPE, "unknown")

    plant(RelayConnection, "_unexpected", wrong)
    plant(connection, "_UNEXPECTED", (wrong, 1.0))


def gives_one_ticket_for_ever() -> None:
    """Takes a ticket for the next plane as often as it comes."""
    plant(tickets.Tickets, "_forget_resume", lambda self, ticket: None)


def passes_offers_to_everybody() -> None:
    """Takes a feature for named by whoever comes."""
    plant(relay_handshake, "shared", lambda here, there: frozenset(here))


def takes_letters_from_anybody() -> None:
    """Takes letters whoever leaves them, where there is a mailbox."""
    plant(store, "takes", lambda services, sender, service: False)


def keeps_what_is_done() -> None:
    """Forgets no letter that is safe."""
    plant(store.Tables, "done", lambda self, tables, guid, numbers: 0)


def hands_letters_over_backwards() -> None:
    """Gives the last letter first."""
    right = store.Tables.after
    plant(store.Tables, "after", lambda self, *given: right(self, *given)[::-1])


def takes_a_letter_twice() -> None:
    """Keeps a letter as often as it is left."""
    right = store.Tables.leave

    def wrong(self: store.Tables, tables: Any, sender: Any, said: Any, *given: Any) -> Any:
        another = structs.replace(said, id=os.urandom(16))
        return right(self, tables, sender, another, *given)

    plant(store.Tables, "leave", wrong)


def gives_no_prekey_for_one_letter() -> None:
    """Gives the prekey for all, whatever others there are."""
    right = store.Tables.prekey

    def wrong(self: store.Tables, *given: Any, one_time: bool) -> Any:
        return right(self, *given, one_time=False)

    plant(store.Tables, "prekey", wrong)


def hands_over_more_than_the_window() -> None:
    """Has as many letters on their way as there are."""
    plant(mailbox._Reading, "room", 64)


def serves_every_page() -> None:
    """Looks at no origin."""
    plant(page.Pages, "serves", lambda self, request: True)


def tells_pages_nothing() -> None:
    """Has the next ticket in a header, which no page sees."""
    plant(plane, "hands_out", lambda ticket: "{}")


RELAY_FAULTS: dict[str, tuple[Fault, str, str]] = {
    "nothing": (nothing, "", ""),
    "no code header": (no_code_header, "R3.18", "the header says None"),
    "registers anybody": (
        registers_anybody,
        "R5.5",
        "(behind `bad_signature`)",
    ),
    "discloses everything": (
        discloses_everything,
        "R6.16",
        "told that nobody has proven",
    ),
    "takes old records": (takes_old_records, "R6.12", "answers [('registered', None"),
    "admits whoever comes": (admits_twice, "R9.5", "status 101, not 403"),
    "drops early bytes": (drops_early_bytes, "R9.13", "no byte 11 of"),
    "takes loss for leaving": (takes_loss_for_leaving, "R5.23", "the peer is offline, not suspect"),
    "ends at unknown types": (ends_at_unknown_types, "R7.36", "the stream ended where `error`"),
    "passes offers to everybody": (
        passes_offers_to_everybody,
        "R7.71",
        "the callee gets another offer",
    ),
    "takes letters from anybody": (
        takes_letters_from_anybody,
        "R7.54",
        "answered with None, not letter_refused",
    ),
    "keeps what is done": (keeps_what_is_done, "R7.65", "where b'three' is the next"),
    "hands letters over backwards": (hands_letters_over_backwards, "R7.64", "where b'one' is"),
    "takes a letter twice": (takes_a_letter_twice, "R7.60", "where b'same' is the next"),
    "gives no prekey for one letter": (gives_no_prekey_for_one_letter, "R7.58", "or none of them"),
    "hands over more than the window": (
        hands_over_more_than_the_window,
        "R7.62",
        "nothing should have come (no letter more)",
    ),
    "gives one ticket for ever": (gives_one_ticket_for_ever, "R9.16", "good twice"),
    "serves every page": (serves_every_page, "R18.29", "no first frame"),
    "tells pages nothing": (tells_pages_nothing, "R18.25", "in place of the ticket"),
}
"""The same of a relay."""


async def serve_relay(port: int) -> None:
    """Be a relay until the process is told to end."""
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    with tempfile.TemporaryDirectory() as state:
        config = RelayConfig(port=port, drain_timeout=0.1, state=state)
        async with RelayServer(config):
            await ended.wait()


def live(kind: str, fault: str, port: str) -> None:
    """Be a party with a fault."""
    faults = PEER_FAULTS if kind == "peer" else RELAY_FAULTS
    faults[fault][0]()
    asyncio.run(own.serve() if kind == "peer" else serve_relay(int(port)))


def main() -> None:
    """Fork a party for each who comes, until nobody holds the first connection any more."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    door = socket.socket(socket.AF_UNIX)
    door.bind(sys.argv[1])
    door.listen(64)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        visitor, _ = door.accept()
        streams = array.array("i")
        said, more, _, _ = visitor.recvmsg(4096, socket.CMSG_SPACE(3 * streams.itemsize))
        for _, _, data in more:
            streams.frombytes(data)
        if not said:
            return
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            door.close()
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
                os.close(stream)
            visitor.sendall(b"%d\n" % os.getpid())
            live(*msgpack.unpackb(said))
            return
        visitor.close()
        for stream in streams:
            os.close(stream)


if __name__ == "__main__":
    main()
