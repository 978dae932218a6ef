"""Who is admitted: everybody, a list, invitations, or as the program says."""

import asyncio
from pathlib import Path
from time import monotonic

import pytest

from protocol.codec import encode_location
from protocol.errors import Code
from protocol.identity import Identity
from protocol.invitation import Invitation
from protocol.messages import (
    Error,
    LocationRecord,
    Mode,
    Registered,
    ServiceRecord,
    ServiceRequestTo,
    ServiceResponse,
)
from relay.admission import Ban as BanKept
from relay.admission import Grant, Refusal
from relay.config import ConfigError, RelayConfig
from relay.operator import Allow, Ban, Done, Failed, Revoke
from relay.server import RelayServer
from tests.relay.admission.doors import OPERATOR, come, door, invited, outcome, refusal, token
from tests.relay.client import client, registered

ALICE = Identity.generate()


async def decided(server: RelayServer, times: int) -> None:
    """Wait until so many were admitted or refused."""
    async with asyncio.timeout(60):
        while sum(server.metrics.admissions.values()) < times:
            await asyncio.sleep(0)


async def test_everybody_is_admitted_by_default() -> None:
    async with door() as server:
        async with client(server.url) as one:
            assert not (await one.hello()).invitation
        assert isinstance(await come(server), Registered)
        assert server.metrics.admissions["granted"] == 1


async def test_a_list(tmp_path: Path) -> None:
    bob = Identity.generate()
    async with door(tmp_path, admission="listed", listed=(ALICE.guid,)) as server:
        assert isinstance(await come(server, ALICE), Registered)
        said = await refusal(server, bob)
        assert (said.code, said.retry_after) == (Code.NOT_ADMITTED, None)
        assert "list" in said.reason
        assert await server.operator.do(Allow(bob.guid)) == Done(bob.guid, "on the list")
        assert isinstance(await come(server, bob), Registered)
    async with door(tmp_path, admission="listed") as server:
        assert isinstance(await come(server, bob), Registered)
        assert isinstance(await come(server, ALICE), Error)


async def test_nothing_is_kept_of_who_is_not_admitted(tmp_path: Path) -> None:
    async with door(tmp_path, admission="listed") as server:
        await refusal(server, ALICE)
        assert server.registry.get(ALICE.guid) is None
        assert server.metrics.registrations == 0


# -- invitations ---------------------------------------------------------------------------------


async def test_an_invitation_admits_as_many_as_it_says(tmp_path: Path) -> None:
    two = token(uses=2)
    first, second, third = (Identity.generate() for _ in range(3))
    async with invited(tmp_path) as server:
        async with client(server.url) as one:
            assert (await one.hello()).invitation
        for identity in (first, second, first, second):
            assert isinstance(await come(server, identity, two), Registered)
        said = await refusal(server, third, two)
        assert (said.code, said.retry_after) == (Code.NOT_ADMITTED, None)
        assert "used up" in said.reason
        # Who has come by it needs it no more.
        assert isinstance(await come(server, first), Registered)
    async with invited(tmp_path) as server:
        assert isinstance(await come(server, first), Registered)
        assert "used up" in (await refusal(server, third, two)).reason
        assert server.metrics.admissions["used_up"] == 1


async def test_each_fault_of_an_invitation_has_its_sentence(tmp_path: Path) -> None:
    async with invited(tmp_path) as server:
        said = await refusal(server)
        assert (said.code, said.retry_after) == (Code.NOT_ADMITTED, None)
        assert "ask its operator for an invitation" in said.reason
        said = await refusal(server, token=token(ends_in=-5))
        assert "has expired" in said.reason
        assert said.code is Code.NOT_ADMITTED
        assert said.retry_after  # It may be extended: not for good.
        said = await refusal(server, token=token(operator=Identity.generate()))
        assert (said.code, said.retry_after) == (Code.NOT_ADMITTED, None)
        assert "not from an operator" in said.reason
        taken = token()
        assert await server.operator.do(Revoke(taken.invitation.id)) == Done(
            taken.invitation.id, "revoked, though nobody has come by it yet"
        )
        said = await refusal(server, token=taken)
        assert (said.code, said.retry_after) == (Code.NOT_ADMITTED, None)
        assert "taken back" in said.reason
        assert {"not_listed", "expired", "forged", "revoked"} <= set(server.metrics.admissions)


async def test_the_relay_s_own_key_invites(tmp_path: Path) -> None:
    async with invited(tmp_path, operators=()) as server:
        own = token(operator=server.identity)
        assert isinstance(await come(server, token=own), Registered)
        assert isinstance(await come(server, token=token()), Error)


async def test_what_an_invitation_grants(tmp_path: Path) -> None:
    some = token(modes=("p2p",), requests_per_second=0.01)
    rates = {"requests_per_second": 200.0, "requests_burst": 400}
    async with invited(tmp_path, **rates) as server, client(server.url) as one:
        await one.register(token=some)

        async def ask(number: int, mode: Mode) -> ServiceResponse:
            one.send(ServiceRequestTo(number, ALICE.guid, "chat", mode, bytes(16)))
            return await one.expect(ServiceResponse)

        said = await ask(1, Mode.CENTRAL)
        assert said.code is Code.REFUSED
        assert "central" in said.reason
        # One in 100 seconds, where others have 200 a second: its burst is as much smaller.
        assert (await ask(2, Mode.P2P)).code is Code.UNKNOWN_PEER
        said = await ask(3, Mode.P2P)
        assert said.code is Code.LIMIT_EXCEEDED
        assert said.retry_after is not None
        assert 50 < said.retry_after <= 100


async def test_invited_needs_a_state_folder() -> None:
    with pytest.raises(ConfigError, match="name one as 'state'"):
        RelayConfig(admission="invited")
    with pytest.raises(ConfigError, match="operators: not a GUID"):
        RelayConfig(operators="alice")
    with pytest.raises(ConfigError, match="listed: not a GUID"):
        RelayConfig(listed=("alice",))


# -- what takes hold at once ---------------------------------------------------------------------


async def test_a_ban_takes_hold_on_who_is_here(tmp_path: Path) -> None:
    async with (
        door(tmp_path) as server,
        registered(server.url, "chat", identity=ALICE) as one,
        registered(server.url) as other,
    ):
        done = await server.operator.do(Ban(ALICE.guid, reason="spam"))
        assert done == Done(ALICE.guid, "banned", 1)
        said = await one.expect(Error)
        assert (said.code, said.retry_after) == (Code.NOT_ADMITTED, None)
        assert "spam" not in said.reason
        assert await one.closed()
        assert (await refusal(server, ALICE)).code is Code.NOT_ADMITTED
        # Nobody else is touched.
        other.send(ServiceRequestTo(1, ALICE.guid, "chat", Mode.P2P, bytes(16)))
        assert (await other.expect(ServiceResponse)).code is Code.PEER_OFFLINE
    async with door(tmp_path) as server:
        assert (await refusal(server, ALICE)).code is Code.NOT_ADMITTED
        await server.operator.do(Allow(ALICE.guid))
        assert isinstance(await come(server, ALICE), Registered)


async def test_a_ban_takes_hold_on_who_is_about_to_be_here() -> None:
    """Between the grant and the registration others have their turn: a large record is checked
    piece by piece."""
    async with door() as server, client(server.url, ALICE) as one:
        await one.hello()
        names = [f"service-{number}" for number in range(16)]
        services = tuple(
            ServiceRecord(name, tuple(one.entry(name, 1, port=port) for port in range(1, 17)))
            for name in names
        )
        record = LocationRecord(1, services)
        one.send(one.signed_register(encode_location(record)))
        await decided(server, 1)
        assert server.metrics.admissions["granted"] == 1
        assert server.metrics.registrations == 0, "it is still being checked"
        server.admission.book.bans.put(BanKept(ALICE.guid, 0.0))
        said = await outcome(one)
        assert isinstance(said, Error)
        assert said.code is Code.NOT_ADMITTED
        assert server.registry.get(ALICE.guid) is None


async def test_who_waits_for_the_program_is_revoked_too() -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    async def admit(guid: str, network: str, invitation: Invitation | None) -> Grant:
        begun.set()
        await go.wait()
        return Grant()

    async with door(admit=admit, admission_timeout=60) as server, client(server.url, ALICE) as one:
        await one.ask_to_register()
        await begun.wait()
        assert await server.operator.do(Revoke(ALICE.guid)) == Done(
            ALICE.guid, "sent away, but it may come back: 'relay ban'", 1
        )
        go.set()
        said = await outcome(one)
        assert isinstance(said, Error)
        assert said.code is Code.NOT_ADMITTED
        await decided(server, 1)
        assert server.registry.get(ALICE.guid) is None


async def test_a_ban_of_a_network_is_not_for_good(tmp_path: Path) -> None:
    async with door(tmp_path) as server, registered(server.url) as one:
        done = await server.operator.do(Ban("127.0.0.0/8"))
        assert done == Done("127.0.0.0/8", "banned", 1)
        said = await one.expect(Error)
        assert said.code is Code.NOT_ADMITTED
        assert said.retry_after
        assert (await refusal(server)).retry_after
        assert isinstance(await server.operator.do(Allow("127.0.0.0/8")), Done)
        assert isinstance(await server.operator.do(Allow("127.0.0.0/8")), Failed)
        assert isinstance(await come(server), Registered)


async def test_a_ban_that_ends_says_when(tmp_path: Path) -> None:
    async with door(tmp_path) as server:
        await server.operator.do(Ban(ALICE.guid, seconds=100.0))
        said = await refusal(server, ALICE)
        assert said.retry_after is not None
        assert 90 < said.retry_after <= 100


async def test_revoking_takes_hold_on_who_is_here(tmp_path: Path) -> None:
    some, bob, carol = token(uses=9), Identity.generate(), Identity.generate()
    async with invited(tmp_path) as server:
        async with client(server.url, bob) as here, client(server.url, carol) as there:
            await here.register(token=some)
            await there.register(token=some)
            assert await server.operator.do(Revoke(bob.guid)) == Done(bob.guid, "revoked", 1)
            assert (await here.expect(Error)).code is Code.NOT_ADMITTED
            assert "taken back" in (await refusal(server, bob, some)).reason
            done = await server.operator.do(Revoke(some.invitation.id))
            assert done == Done(some.invitation.id, "revoked", 1)
            assert (await there.expect(Error)).code is Code.NOT_ADMITTED
        # Another invitation admits again.
        assert isinstance(await come(server, bob, token()), Registered)


async def test_an_invitation_is_revoked_and_its_peers_stay(tmp_path: Path) -> None:
    some = token(uses=9)
    async with invited(tmp_path) as server, client(server.url, ALICE) as one:
        await one.register(token=some)
        done = await server.operator.do(Revoke(some.invitation.id, keep_peers=True))
        assert done == Done(some.invitation.id, "revoked", 0)
        assert isinstance(await come(server, ALICE, some), Registered)
        assert "taken back" in (await refusal(server, token=some)).reason


# -- the program's own ---------------------------------------------------------------------------


async def test_the_program_decides() -> None:
    asked: list[tuple[str, str, Invitation | None]] = []

    async def admit(guid: str, network: str, invitation: Invitation | None) -> Grant | Refusal:
        asked.append((guid, network, invitation))
        return Grant() if guid == ALICE.guid else Refusal("not today", retry_after=7.0)

    async with door(admit=admit, operators=OPERATOR.guid) as server:
        shown = token(note="hello")
        assert isinstance(await come(server, ALICE, shown), Registered)
        said = await refusal(server)
        assert (said.code, said.reason, said.retry_after) == (Code.NOT_ADMITTED, "not today", 7.0)
        assert asked[0] == (ALICE.guid, "127.0.0.1/32", shown.invitation)
        assert asked[1][2] is None
        # A ban goes before what the program says.
        await server.operator.do(Ban(ALICE.guid))
        assert isinstance(await come(server, ALICE), Error)
        assert len(asked) == 2


@pytest.mark.parametrize("fault", ["raises", "nonsense", "cancels", "no coroutine"])
@pytest.mark.expected_errors("decide who is admitted|decision who is admitted")
async def test_a_program_that_fails_admits_nobody(fault: str) -> None:
    async def admit(guid: str, network: str, invitation: Invitation | None) -> Grant | Refusal:
        if fault == "raises":
            raise LookupError("no database")
        if fault == "cancels":
            raise asyncio.CancelledError
        return True  # type: ignore[return-value]

    def plain(guid: str, network: str, invitation: Invitation | None) -> Grant:
        return Grant()

    chosen = plain if fault == "no coroutine" else admit
    async with door(admit=chosen) as server:  # type: ignore[arg-type]
        said = await refusal(server)
        # An older peer takes `not_admitted` as final, and this is not.
        assert said.code is Code.INTERNAL
        assert said.retry_after
        assert server.metrics.admissions == {"failed": 1}
        assert "database" not in said.reason


@pytest.mark.expected_errors("did not decide in time")
async def test_a_program_that_takes_too_long_admits_nobody() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def admit(guid: str, network: str, invitation: Invitation | None) -> Grant:
        begun.set()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            await ended.wait()  # It takes no notice.
        return Grant()

    async with door(admit=admit, admission_timeout=0.05) as server:
        said = await refusal(server)
        assert begun.is_set()
        assert said.code is Code.INTERNAL
        assert server.metrics.admissions == {"timed_out": 1}
        ended.set()
        assert server.registry.get(ALICE.guid) is None


async def test_who_leaves_while_the_program_decides_leaves_nothing() -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    async def admit(guid: str, network: str, invitation: Invitation | None) -> Grant:
        begun.set()
        await go.wait()
        return Grant()

    async with door(admit=admit, admission_timeout=60) as server:
        async with client(server.url, ALICE) as one:
            await one.ask_to_register()
            await begun.wait()
        async with asyncio.timeout(60):
            while server.connections:
                await asyncio.sleep(0)
        go.set()
        await decided(server, 1)
        assert server.registry.get(ALICE.guid) is None


async def test_a_grant_that_ends_is_asked_for_again() -> None:
    answers: list[Grant | Refusal] = [
        Grant(lifetime=5.0),
        Grant(lifetime=5.0),
        Refusal("enough", retry_after=9.0),
    ]

    async def admit(guid: str, network: str, invitation: Invitation | None) -> Grant | Refusal:
        return answers.pop(0)

    async with door(admit=admit) as server, registered(server.url) as one:
        for number in (2, 3):
            for connection in list(server.connections):
                connection.watch_time(monotonic() + 6)
            await decided(server, number)
        said = await one.expect(Error)
        assert (said.reason, said.retry_after) == ("enough", 9.0)
        assert not answers
        assert await one.closed()


@pytest.mark.parametrize(
    ("name", "value"),
    [("lifetime", 0.0), ("lifetime", float("nan")), ("requests_per_second", -1.0)],
)
def test_a_grant_that_cannot_be_meant(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        Grant(**{name: value})
