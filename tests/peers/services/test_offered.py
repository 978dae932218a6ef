"""The services of one peer, by name, and the record that tells of them."""

import pytest

from peers import Identity
from peers.location import OwnLocation
from peers.services import Services, ServicesChanged
from protocol.endpoint import read_entry
from protocol.errors import ConnectionClosed, RelayUnavailable
from protocol.messages import Disclosure

HOST = "192.0.2.1"


class Offering(Services):
    """Services, and what was told of them."""

    def __init__(self) -> None:
        self.told: list[ServicesChanged] = []
        location = OwnLocation(Identity.generate(), 4000, configured=(), lifetime=60)
        super().__init__(location, self.told.append)


def test_what_is_offered_is_found_until_it_is_closed() -> None:
    services = Offering()
    one = services.offer("chat", None, "anyone", None)
    assert services.find("chat") is one
    assert services.find("mail") is None
    one.close()
    assert services.find("chat") is None
    assert services.told == [ServicesChanged(), ServicesChanged("chat")]
    another = services.offer("chat", None, "anyone", None)
    one.close()
    assert services.find("chat") is another, "closed again, it takes no other one away"


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
