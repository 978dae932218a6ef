"""What a doctor says of what was seen: each fault has its word, its level and its step."""

from dataclasses import replace

import pytest

from peers.reach import (
    AddressSeen,
    Diagnosis,
    Finding,
    HealthSeen,
    Mapping,
    NameSeen,
    RegistrationSeen,
    WaySeen,
    ZoneSeen,
    diagnose,
)
from protocol.endpoint import Endpoint
from protocol.errors import Code, RelayMisconfigured, RelayUnavailable, RoamRelayError

URL = "https://relay.example"
HERE = (AddressSeen("192.168.50.2", "wlan0"), AddressSeen("10.0.0.2", "wwan0"))
RAW = WaySeen(URL, "raw", "203.0.113.1", "192.168.50.2", "wlan0", 0.012)
WEBSOCKET = replace(RAW, carrier="websocket")
LOCAL, SEEN = Endpoint("192.168.50.2", 4000), Endpoint("198.51.100.7", 4000)
REGISTERED = RegistrationSeen(URL, "203.0.113.1", None, "guid", LOCAL, SEEN, port=4000)
SILENT = RelayUnavailable("no answer")


def found(seen: Diagnosis, about: str) -> Finding:
    [one] = [one for one in diagnose(seen) if one.about == about]
    return one


def levels(seen: Diagnosis) -> dict[str, str]:
    return {one.about: one.level for one in diagnose(seen)}


def test_a_network_without_a_fault() -> None:
    seen = Diagnosis(
        HERE,
        [NameSeen(URL, ("203.0.113.1",))],
        [RAW, WEBSOCKET],
        [HealthSeen(URL, 200, 0.0, 80.0)],
        [replace(REGISTERED, observed=LOCAL, mapping=Mapping.NONE, reachable=True)],
        ZoneSeen("peers.example", 0.01),
    )
    assert set(levels(seen).values()) == {"good"}
    assert not any(one.next_step for one in diagnose(seen))
    assert found(seen, "kind").said == "IPv4: open"
    assert found(seen, "kind").facts["direct"] == {"IPv4": True}


def test_without_a_network_nothing_but_that_is_mended() -> None:
    away = replace(RAW, source="", interface="", seconds=None, failure=SILENT)
    seen = Diagnosis((), [], [away])
    first = next(iter(diagnose(seen)))
    assert (first.level, first.about) == ("error", "network")
    assert isinstance(first.cause, RelayUnavailable)
    # One at this very host is reached all the same.
    assert levels(Diagnosis((), [], [RAW]))["network"] == "warning"


@pytest.mark.parametrize(
    ("failures", "step"),
    [
        ((SILENT, SILENT), "is it running"),
        ((SILENT, RelayMisconfigured("the certificate is not accepted")), "mend what it says"),
        ((SILENT, RelayUnavailable("", code=Code.UPGRADE_REQUIRED)), "strips the upgrade"),
        ((RelayUnavailable("", code=Code.LIMIT_EXCEEDED), SILENT), "busy"),
    ],
)
def test_of_what_has_failed_the_most_telling_counts(
    failures: tuple[RoamRelayError, RoamRelayError], step: str
) -> None:
    ways = [
        replace(way, seconds=None, failure=failure)
        for way, failure in zip((RAW, WEBSOCKET), failures, strict=True)
    ]
    one = found(Diagnosis(HERE, [], ways), "relay")
    assert one.level == "error"
    assert step in one.next_step
    assert one.cause in failures


def test_a_network_that_passes_websocket_alone() -> None:
    ways = [replace(RAW, seconds=None, failure=SILENT), WEBSOCKET]
    one = found(Diagnosis(HERE, [], ways), "carrier")
    assert (one.level, one.facts["carriers"]) == ("warning", ["websocket"])
    # Who was told to try no other has not found that out.
    assert "carrier" not in levels(Diagnosis(HERE, [], [WEBSOCKET]))


def test_an_interface_and_a_family_that_are_dead_ends() -> None:
    other = replace(RAW, source="10.0.0.2", interface="wwan0", seconds=None, failure=SILENT)
    steps = [one.next_step for one in diagnose(Diagnosis(HERE, [], [RAW, other]))]
    assert any("wwan0" in step for step in steps)
    v6 = replace(RAW, host="2001:db8::1", source="", seconds=None, failure=SILENT)
    steps = [one.next_step for one in diagnose(Diagnosis(HERE, [], [RAW, v6]))]
    assert any(step.startswith("IPv6 leads nowhere here") for step in steps)


@pytest.mark.parametrize(
    ("health", "about", "level", "word"),
    [
        (HealthSeen(URL, 200, 3.0), "clock", "good", "agrees"),
        (HealthSeen(URL, 200, 60.0), "clock", "warning", "60 s ahead"),
        (HealthSeen(URL, 200, -4000.0), "clock", "warning", "refused"),
        (HealthSeen(URL, 200, None, 3.0), "certificate", "warning", "3.0 more days"),
        (HealthSeen(URL, 200, None, 30.0), "certificate", "good", "30.0 more days"),
        (HealthSeen(URL, 511, None, None, False), "who answers", "warning", "511"),
    ],
)
def test_clock_certificate_and_who_answers(
    health: HealthSeen, about: str, level: str, word: str
) -> None:
    one = found(Diagnosis(HERE, [], [RAW], [health]), about)
    assert one.level == level
    assert word in one.said
    assert bool(one.next_step) is (level != "good")


@pytest.mark.parametrize(
    ("mapping", "reachable", "at_mapping", "kind", "level"),
    [
        (Mapping.NONE, True, False, "open", "good"),
        (Mapping.NONE, False, False, "stateful firewall", "warning"),
        (Mapping.NONE, None, False, "no NAT", "warning"),
        (Mapping.ENDPOINT_INDEPENDENT, True, False, "NAT that lets others in", "good"),
        (Mapping.ENDPOINT_INDEPENDENT, False, True, "NAT that lets others in", "warning"),
        (Mapping.ENDPOINT_INDEPENDENT, False, False, "port-restricted NAT", "warning"),
        (Mapping.ADDRESS_DEPENDENT, False, False, "symmetric NAT", "warning"),
        (Mapping.ADDRESS_AND_PORT_DEPENDENT, False, False, "symmetric NAT", "warning"),
        (Mapping.UNKNOWN, False, False, "NAT", "warning"),
    ],
)
def test_kinds_of_networks(
    mapping: Mapping, reachable: bool | None, at_mapping: bool, kind: str, level: str
) -> None:
    one = replace(
        REGISTERED,
        mapping=mapping,
        reachable=reachable,
        at_mapping=at_mapping,
        why_unknown="an older version",
    )
    seen = Diagnosis(HERE, [], [RAW], [], [one])
    assert found(seen, "kind").said == f"IPv4: {kind}"
    assert found(seen, "reachable").level == level
    can_be_met = mapping.can_meet and mapping is not Mapping.UNKNOWN
    assert found(seen, "mapping").level == ("good" if can_be_met else "warning")


def test_who_is_not_seen_and_who_shares_an_address() -> None:
    hidden = replace(REGISTERED, observed=None, why_unknown="not seen")
    seen = Diagnosis(HERE, [], [RAW], [], [hidden])
    assert "trusted_proxies" in found(seen, "observed").next_step
    assert found(seen, "kind").said == "IPv4: not known"
    proxied = replace(hidden, host="", proxied=True, local=None)
    assert found(Diagnosis(HERE, [], [RAW], [], [proxied]), "kind").said == "behind a proxy"
    carrier = replace(REGISTERED, local=Endpoint("100.64.0.2", 4000))
    assert "RFC 6598" in found(Diagnosis(HERE, [], [RAW], [], [carrier]), "kind").said


def test_who_is_not_admitted_is_told_how_to_ask() -> None:
    refused = RelayUnavailable("not invited", code=Code.NOT_ADMITTED)
    seen = Diagnosis(HERE, [], [RAW], [], [replace(REGISTERED, failure=refused)])
    one = found(seen, "registration")
    assert (one.level, one.cause) == ("error", refused)
    assert "--own-key" in one.next_step
    assert "kind" not in levels(seen)


def test_a_name_and_a_zone_that_are_not_found() -> None:
    seen = Diagnosis(HERE, [NameSeen(URL, failure="no such name")], zone=ZoneSeen("z", None, "-"))
    assert levels(seen) == {"interfaces": "good", "DNS": "error", "zone": "warning"}


def test_one_relay_of_several_that_is_down_is_no_error() -> None:
    other = replace(RAW, relay="https://other.example", seconds=None, failure=SILENT)
    names = [NameSeen(URL, ("203.0.113.1",)), NameSeen("https://third.example", failure="no such")]
    found_at = replace(REGISTERED, mapping=Mapping.NONE, observed=LOCAL, reachable=True)
    seen = Diagnosis(HERE, names, [RAW, other], [], [found_at])
    assert {one.level for one in diagnose(seen)} == {"good", "warning"}
    assert levels(replace(seen, registrations=[]))["relay"] == "error"


def test_a_relay_may_not_dial_where_it_sees_a_private_address() -> None:
    for observed, said in ((SEEN, False), (Endpoint("10.0.0.7", 4000), True)):
        one = replace(REGISTERED, observed=observed, reachable=False, mapping=Mapping.NONE)
        seen = Diagnosis(HERE, [], [RAW], [], [one])
        assert ("proof_networks" in found(seen, "reachable").said) is said
