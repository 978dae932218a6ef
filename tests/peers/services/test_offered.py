"""The services of one peer, by name, and the record that tells of them."""

from collections.abc import Iterator

import pytest

from peers import Identity
from peers.location import Hosts, OwnLocation
from peers.location.told import MAX_RECORD_BYTES
from peers.services import Services, ServicesChanged
from protocol.codec import encode, encode_location
from protocol.endpoint import read_entry
from protocol.errors import Code, ConnectionClosed, RelayUnavailable
from protocol.messages import (
    MAX_DISCLOSE,
    MAX_MESSAGE_BYTES,
    MAX_SERVICES,
    Disclosure,
    LocationRecord,
    Register,
)
from relay.presence.records import Services as Opened
from relay.presence.records import VerifiedEntries, check_record

HOST = "192.0.2.1"
GUID = Identity.generate().guid


class Offering(Services):
    """Services, and what was told of them."""

    def __init__(self) -> None:
        self.told: list[ServicesChanged] = []
        identity = Identity.generate()
        self.guid = identity.guid
        self.location = OwnLocation(identity, 4000, configured=(), lifetime=60)
        super().__init__(self.location, self.told.append)


def test_what_is_offered_is_found_until_it_is_closed() -> None:
    services = Offering()
    one = services.offer("chat", None, "anyone", None)
    assert services.find("chat", GUID) is one
    assert services.find("mail", GUID) is None
    one.close()
    assert services.find("chat", GUID) is None
    assert services.told == [ServicesChanged(), ServicesChanged("chat")]
    another = services.offer("chat", None, "anyone", None)
    one.close()
    assert services.find("chat", GUID) is another, "closed again, it takes no other one away"


@pytest.mark.parametrize("service", ["Chat", "", "a" * 64, "-x", "x-", "a b", "a.b", "ä"])
def test_not_every_text_is_the_name_of_a_service(service: str) -> None:
    services = Offering()
    with pytest.raises(ValueError, match="not a service name"):
        services.offer(service, None, "anyone", None)
    assert services.told == []


def test_what_cannot_be_offered_changes_nothing() -> None:
    services = Offering()
    services.offer("chat", None, "anyone", None)
    with pytest.raises(ValueError, match="already"):
        services.offer("chat", None, "anyone", None)
    with pytest.raises(ValueError, match="disclose"):
        services.offer("mail", None, "sometimes", None)
    assert list(services.listeners) == ["chat"]
    assert services.told == [ServicesChanged()]


def test_the_record_tells_each_service_its_port_and_who_may_know() -> None:
    services = Offering()
    guid = Identity.generate().guid
    services.offer("chat", None, [guid], None)
    services.offer("ssh", None, "nobody", 22)
    first, second = services.record(HOST), services.record(HOST)
    assert second.seq > first.seq
    told = {
        one.service: (read_entry(one.entries[0]).port, one.disclose, one.listed)
        for one in second.services
    }
    assert told == {
        "chat": (4000, Disclosure.LISTED, (guid,)),
        "ssh": (22, Disclosure.NOBODY, ()),
    }
    assert read_entry(second.services[0].entries[0]).host == HOST, "it has just proven to work"


@pytest.mark.parametrize(
    ("error", "raised"), [(None, None), (RelayUnavailable("refused"), RelayUnavailable)]
)
async def test_the_end_of_all_is_told_to_each(
    error: RelayUnavailable | None, raised: type[Exception] | None
) -> None:
    services = Offering()
    made = [services.offer(name, None, "anyone", None) for name in ("chat", "mail", "ssh")]
    services.told.clear()
    services.end(error)
    assert services.listeners == {}
    assert [one.ended for one in services.told] == ["chat", "mail", "ssh"]
    for one in made:
        if raised is None:
            assert [each async for each in one] == []
        else:
            with pytest.raises(raised):
                await anext(one)
    assert services.offer("chat", None, "anyone", None), "another one may be offered"


async def test_who_hears_that_one_has_ended_may_end_the_others() -> None:
    location = OwnLocation(Identity.generate(), 4000, configured=(), lifetime=60)
    told: list[str | None] = []

    def tell(change: ServicesChanged) -> None:
        told.append(change.ended)
        if change.ended is not None:
            services.end(None)

    services = Services(location, tell)
    for name in ("chat", "mail", "ssh"):
        services.offer(name, None, "anyone", None)
    services.listeners["mail"].close()
    assert services.listeners == {}
    assert sorted(one for one in told if one) == ["chat", "mail", "ssh"]


async def test_who_closes_offers_nothing_more_and_publishes_nothing() -> None:
    services = Offering()
    one = services.offer("chat", None, "anyone", None)
    services.told.clear()
    services.close()
    services.close()
    assert services.told == []
    assert [each async for each in one] == []
    with pytest.raises(ConnectionClosed):
        services.offer("mail", None, "anyone", None)
    assert services.record(HOST).services == ()


def test_one_service_more_than_a_record_may_have_is_refused_where_it_is_offered() -> None:
    services = Offering()
    for number in range(MAX_SERVICES):
        services.offer(f"service-{number}", None, "anyone", None)
    services.told.clear()
    for port in (None, 22):
        with pytest.raises(ValueError, match=f"at most {MAX_SERVICES} services"):
            services.offer("one-more", None, "anyone", port)
    assert len(services.listeners) == MAX_SERVICES
    assert services.told == []
    services.listeners["service-0"].close()
    services.offer("one-more", None, "anyone", None)


@pytest.mark.parametrize("listed", [["bob"], ["A" * 52], ["a" * 53], [7], [b"a" * 52], [""]])
def test_a_disclosure_list_is_of_guids(listed: list[str]) -> None:
    services = Offering()
    with pytest.raises((TypeError, ValueError), match="GUID"):
        services.offer("chat", None, listed, None)
    assert services.listeners == {}


def test_without_a_relay_there_is_no_record_to_fit_into() -> None:
    services = Services(Offering().location, lambda event: None, registers=False)
    for number in range(MAX_SERVICES + 1):
        services.offer(f"service-{number}", None, "anyone", None)
    assert len(services.listeners) == MAX_SERVICES + 1


def test_lists_that_are_too_long_for_one_record_are_refused_where_they_are_handed_over() -> None:
    services = Offering()
    guids = [Identity.from_seed(bytes([number, 0] * 16)).guid for number in range(MAX_DISCLOSE)]
    for number in range(4):
        services.offer(f"service-{number}".ljust(63, "x"), None, guids, None)
    with pytest.raises(ValueError, match="too long"):
        services.offer("one-more", None, guids, None)
    services.offer("without-a-list", None, "anyone", None)
    assert len(services.listeners) == 5
    # What was taken can be registered, wherever this host goes.
    services.location.update(
        Hosts(tuple(f"2001:db8:{n:x}:ffff:ffff:ffff:ffff:ffff" for n in range(40)))
    )
    record = services.record(HOST)
    assert len(encode_location(record)) <= MAX_RECORD_BYTES
    register = encode(Register(encode_location(record), bytes(64)))
    assert len(register) <= MAX_MESSAGE_BYTES
    assert min(len(one.entries) for one in record.services) >= 4
    taken: list[Opened] = []

    def check() -> Iterator[float]:
        taken.append((yield from check_record(services.guid, record, {}, VerifiedEntries())))

    assert sum(check()) > 0
    assert taken[0].keys() == services.listeners.keys()


def test_with_every_service_at_every_address_the_first_addresses_are_told() -> None:
    services = Offering()
    services.location.update(
        Hosts(tuple(f"2001:db8:{n:x}:ffff:ffff:ffff:ffff:ffff" for n in range(40)))
    )
    for number in range(MAX_SERVICES):
        services.offer(f"service-{number}".ljust(63, "x"), None, "anyone", None)
    record = services.record(HOST)
    assert len(encode_location(record)) <= MAX_RECORD_BYTES
    assert {read_entry(one.entries[0]).host for one in record.services} == {HOST}


REFUSED = RelayUnavailable("malformed", code=Code.BAD_MESSAGE)


def names(record: LocationRecord) -> list[str]:
    return [one.service for one in record.services]


@pytest.mark.expected_errors("not registered")
def test_what_a_relay_cannot_take_leaves_in_force_what_it_took() -> None:
    services = Offering()
    services.offer("one", None, "anyone", None)
    services.accepted(services.record(HOST))
    two = services.offer("two", None, "anyone", None)
    assert names(services.record(HOST)) == ["one", "two"]
    services.refused(services.record(HOST), REFUSED)
    assert services.refusal is REFUSED
    assert names(services.record(HOST)) == ["one"]
    # What was in force and is not offered any more is not told either.
    services.listeners["one"].close()
    assert services.refusal is None, "what is offered has changed: it is tried"
    assert names(services.record(HOST)) == ["two"]
    services.refused(services.record(HOST), REFUSED)
    assert names(services.record(HOST)) == []
    two.close()
    assert services.refusal is None


def test_what_was_in_force_before_is_not_given_up_for_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    services = Offering()
    services.offer("one", None, "anyone", None)
    record = services.record(HOST)
    services.accepted(record)
    services.refused(record, REFUSED)
    assert services.refusal is None
    assert names(services.record(HOST)) == ["one"]
    assert not caplog.records


def test_a_refusal_of_what_is_offered_no_more_says_nothing() -> None:
    services = Offering()
    one = services.offer("one", None, "anyone", None)
    record = services.record(HOST)
    one.close()
    services.offer("two", None, "anyone", None)
    services.refused(record, REFUSED)
    assert services.refusal is None


def test_the_next_number_is_above_one_that_is_known() -> None:
    services = Offering()
    ahead = services.record(HOST).seq + 7_200_000
    assert services.advance(ahead)
    assert services.record(HOST).seq == ahead + 1
    assert not services.advance(ahead)
