"""What `peer doctor` says of a network, by what was seen of it.

PURE: facts go in, findings come out, in the order in which one would mend them. What is looked at,
and how, is the work of the command.
"""

import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from peers.reach.seen import (
    Diagnosis,
    HealthSeen,
    NameSeen,
    RegistrationSeen,
    WaySeen,
    ZoneSeen,
)
from protocol.dialing import is_public, unwrapped
from protocol.errors import Code, RelayMisconfigured, RelayUnavailable, RoamRelayError
from protocol.meeting import Mapping

__all__ = ["Finding", "Level", "diagnose"]

Level: TypeAlias = Literal["good", "warning", "error"]
"""`error`: this peer cannot be found by others until it is mended."""

_CLOCK_SHOWS = 5.0
"""Seconds by which the clocks differ before it is said: what HTTP tells is a whole second."""
_CLOCK_HURTS = 300.0
"""Seconds that a signed update of the DNS bears (RFC 8945 §10)."""
_DAY = 86_400.0
_CERTIFICATE_SOON = 14.0
"""Days before its end at which a certificate is worth a word."""
_SHARED = ipaddress.ip_network("100.64.0.0/10")
"""What carriers give to hosts behind a NAT of their own (RFC 6598)."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    level: Level
    about: str
    said: str
    next_step: str = ""
    """Empty where nothing has to be done."""
    facts: dict[str, Any] = field(default_factory=dict)
    """The same for programs."""
    cause: RoamRelayError | None = None
    """With an error: what a peer would raise."""


def diagnose(seen: Diagnosis) -> Iterator[Finding]:
    """Say what was seen, and what to do about it."""
    yield from _interfaces(seen)
    found = any(one.failure is None for one in seen.registrations)
    for finding in _faults(seen):
        # What keeps nobody from being found is no error: there are others of the same relay.
        yield replace(finding, level="warning") if found and finding.level == "error" else finding
    if seen.zone is not None:
        yield from _zone(seen.zone)


def _faults(seen: Diagnosis) -> Iterator[Finding]:
    for name in seen.names:
        yield from _name(name)
    for relay in dict.fromkeys(one.relay for one in seen.ways):
        yield from _ways(relay, seen)
    for health in seen.health:
        yield from _health(health)
    for registration in seen.registrations:
        yield from _registration(registration)
    yield from _network(seen)


def _interfaces(seen: Diagnosis) -> Iterator[Finding]:
    by_interface: dict[str, list[str]] = {}
    for one in seen.addresses:
        by_interface.setdefault(one.interface, []).append(one.host)
    if not by_interface:
        # A relay on this very host is reached all the same.
        reached = any(one.failure is None for one in seen.ways)
        yield Finding(
            "warning" if reached else "error",
            "network",
            "this host has no address that leads anywhere",
            "connect it to a network: a cable, Wi-Fi, a mobile link",
            {"interfaces": {}},
            None if reached else RelayUnavailable("this host has no network"),
        )
        return
    said = "; ".join(f"{name} has {', '.join(hosts)}" for name, hosts in by_interface.items())
    yield Finding("good", "interfaces", said, facts={"interfaces": by_interface})


def _name(seen: NameSeen) -> Iterator[Finding]:
    facts = {"relay": seen.relay, "hosts": list(seen.hosts)}
    if seen.failure:
        yield Finding(
            "error",
            "DNS",
            f"{seen.relay} is not found: {seen.failure}",
            "is the name right? does this network's resolver work (resolvectl status)? an address "
            "in place of the name needs none",
            facts,
            RelayUnavailable(f"cannot find {seen.relay}: {seen.failure}"),
        )
    elif seen.is_name:
        yield Finding("good", "DNS", f"{seen.relay} is at {', '.join(seen.hosts)}", facts=facts)


def _ways(relay: str, seen: Diagnosis) -> Iterator[Finding]:
    ways = [one for one in seen.ways if one.relay == relay]
    working = [one for one in ways if one.failure is None]
    for one in ways:
        yield from _way(one, working)
    if not working and ways:
        first = _most_telling(one.failure for one in ways if one.failure is not None)
        yield Finding(
            "error",
            "relay",
            f"{relay} cannot be reached by any carrier, from any address",
            _step_for(first),
            {"relay": relay, "reachable": False},
            first,
        )
        return
    carriers = {one.carrier for one in working}
    if working and "raw" not in carriers and any(one.carrier == "raw" for one in ways):
        yield Finding(
            "warning",
            "carrier",
            f"something on the way to {relay} passes WebSocket alone: a proxy, or a firewall that "
            "looks into HTTP",
            'nothing: peers find that out by themselves; with carrier = "websocket" they need '
            "not try",
            {"relay": relay, "carriers": sorted(carriers)},
        )


def _most_telling(failures: Iterator[RoamRelayError]) -> RoamRelayError:
    """Return the one that says most: of who answers, before of who is silent."""

    def rank(error: RoamRelayError) -> int:
        if isinstance(error, RelayMisconfigured):
            return 0
        return 1 if error.code is not None else 2

    return min(failures, key=rank)


def _step_for(error: RoamRelayError) -> str:
    if isinstance(error, RelayMisconfigured):
        return "mend what it says: waiting will not cure it"
    if error.code is Code.UPGRADE_REQUIRED:
        return "a proxy on the way strips the upgrade: let it pass WebSocket, or use https://"
    if error.code in (Code.LIMIT_EXCEEDED, Code.RESTARTING):
        return "the relay is there and busy, or restarts: try again in a while"
    return (
        "is it running ('relay status' on its host)? is the URL right, with its port? does a "
        "firewall here or there forbid that port? does a browser in this network have to log in "
        "first?"
    )


def _way(one: WaySeen, working: Sequence[WaySeen]) -> Iterator[Finding]:
    by = f" by the proxy {one.proxy}" if one.proxy else ""
    at = f" at {one.host}" if one.host else ""
    via = f" from {one.source}" if one.source else ""
    via += f" ({one.interface})" if one.interface else ""
    facts = {
        "relay": one.relay,
        "carrier": one.carrier,
        "host": one.host,
        "source": one.source,
        "interface": one.interface,
        "seconds": one.seconds,
        "proxy": one.proxy,
    }
    if one.failure is None:
        took = "" if one.seconds is None else f" in {one.seconds * 1e3:.0f} ms"
        said = f"{one.relay}{at}{via}{by}: {one.carrier} passes{took}"
        yield Finding("good", "way", said, facts=facts)
        return
    step = ""
    if working and not any(way.family == one.family for way in working):
        step = f"{one.family} leads nowhere here; the other family does, and peers take it"
    elif working and one.source and not any(way.source == one.source for way in working):
        step = f"other addresses of this host lead there: is {one.interface or one.source} a dead "
        step += "end, or does it need a login?"
    yield Finding(
        "warning",
        "way",
        f"{one.relay}{at}{via}{by}: {one.carrier} does not pass: {one.failure.reason}",
        step,
        facts | {"failure": one.failure.reason},
    )


def _health(seen: HealthSeen) -> Iterator[Finding]:
    facts = {
        "relay": seen.relay,
        "status": seen.status,
        "clock_ahead": seen.clock_ahead,
        "certificate_days": seen.certificate_days,
    }
    if seen.certificate_days is not None:
        days = seen.certificate_days
        soon = days < _CERTIFICATE_SOON
        yield Finding(
            "warning" if soon else "good",
            "certificate",
            f"that of {seen.relay} is good for {days:.1f} more days",
            "its operator has to renew it" if soon else "",
            facts,
        )
    if seen.status and not seen.is_relay:
        yield Finding(
            "warning",
            "who answers",
            f"at {seen.relay} something else than a relay answers plain HTTP (status "
            f"{seen.status})",
            "is it a page to log in at? open one in a browser; else the URL is another program's",
            facts,
        )
    ahead = seen.clock_ahead
    if ahead is None:
        return
    if abs(ahead) < _CLOCK_SHOWS:
        yield Finding("good", "clock", f"it agrees with that of {seen.relay}", facts=facts)
        return
    said = f"it is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} that of {seen.relay}"
    said += (
        ": certificates may not verify, and signed updates of the DNS are refused"
        if abs(ahead) >= _CLOCK_HURTS
        else ": sessions do not mind"
    )
    yield Finding(
        "warning", "clock", said, "set it: timedatectl set-ntp true, or by hand; or ask them", facts
    )


def _registration(seen: RegistrationSeen) -> Iterator[Finding]:
    facts: dict[str, Any] = {"relay": seen.relay, "family": seen.family, "host": seen.host}
    if seen.failure is not None:
        facts["failure"] = seen.failure.reason
        refused = seen.failure.code is Code.NOT_ADMITTED
        yield Finding(
            "error",
            "registration",
            f"{seen.relay} answers, and does not register a peer: {seen.failure.reason}",
            "it admits whom it knows: with --own-key this peer's own key is asked with, and a "
            "program that runs with it is superseded; else ask its operator ('relay invite')"
            if refused
            else "what it says has to be mended",
            facts,
            seen.failure,
        )
        return
    yield Finding(
        "good",
        "registration",
        f"{seen.relay} registers a peer over {seen.family}, and is {seen.relay_guid}",
        facts=facts | {"relay_guid": seen.relay_guid},
    )
    yield from _observed(seen, facts)
    yield from _reachable(seen, facts)


def _observed(seen: RegistrationSeen, facts: dict[str, Any]) -> Iterator[Finding]:
    local, observed = seen.local, seen.observed
    if seen.proxied:
        return
    facts = facts | {
        "local": None if local is None else str(local),
        "observed": None if observed is None else str(observed),
        "mapping": seen.mapping.value,
    }
    if observed is None:
        yield Finding(
            "warning",
            "observed",
            f"{seen.relay} does not see where {seen.family} comes from: a proxy stands before it",
            "nothing here: direct paths by a NAT's mapping are not found; its operator can name "
            "the proxy ('trusted_proxies')",
            facts,
        )
        return
    where = f"the relay sees {local} as {observed}"
    match seen.mapping:
        case Mapping.NONE:
            yield Finding("good", "mapping", f"no NAT: the relay sees {observed} itself", "", facts)
        case Mapping.ENDPOINT_INDEPENDENT:
            said = f"{where}, wherever it goes (endpoint-independent): peers can meet there"
            yield Finding("good", "mapping", said, facts=facts)
        case Mapping.ADDRESS_DEPENDENT | Mapping.ADDRESS_AND_PORT_DEPENDENT:
            yield Finding(
                "warning",
                "mapping",
                f"{where}, and others see it elsewhere ({seen.mapping.value}): it cannot be met, "
                "only dial those who can be reached",
                "if the router is yours: map_port = 'auto', or map 'listen_port' by hand, or look "
                "for a setting like 'full cone'; sessions in auto stay on the relay else",
                facts,
            )
        case Mapping.UNKNOWN:
            why = (
                "its second port did not answer"
                if seen.may_observe
                else "it has no second port to ask ('observe_port' of the relay)"
            )
            said = f"{where}; whether others do too, it cannot say: {why}"
            yield Finding("warning", "mapping", said, "nothing: peers try", facts)


def _reachable(seen: RegistrationSeen, facts: dict[str, Any]) -> Iterator[Finding]:
    facts = facts | {"reachable": seen.reachable, "port": seen.port}
    observed = "" if seen.observed is None else seen.observed.host
    match seen.reachable:
        case True:
            said = f"others reach this host at {observed} port {seen.port} ({seen.family})"
            yield Finding("good", "reachable", said, facts=facts)
        case False if seen.at_mapping:
            yield Finding(
                "warning",
                "reachable",
                f"others reach this host over {seen.family} at {seen.observed}, the port that its "
                f"NAT has given, and not at port {seen.port}",
                "nothing: such peers meet; to be dialed as well, map the port by hand",
                facts,
            )
        case False:
            behind = seen.mapping is not Mapping.NONE
            address = unwrapped(observed)
            dials = (
                ""
                if address is None or is_public(address)
                else ("; or it does not dial private addresses ('proof_networks' of the relay)")
            )
            step = (
                f"if the router is yours: map TCP port {seen.port} to this host and fix it as "
                "'listen_port'; else nothing: peers meet where their NATs allow it, and talk over "
                "the relay where not"
                if behind
                else f"allow TCP port {seen.port} in this host's firewall and its network's; else "
                "nothing: peers meet"
            )
            yield Finding(
                "warning",
                "reachable",
                f"the relay did not reach this host at {observed} port {seen.port} "
                f"({seen.family}): a {'NAT' if behind else 'firewall'} lets nobody in who was not "
                f"asked{dials}",
                step,
                facts,
            )
        case None:
            said = f"whether others reach this host over {seen.family} is not known: "
            yield Finding("warning", "reachable", said + seen.why_unknown, "", facts)


def _network(seen: Diagnosis) -> Iterator[Finding]:
    """Say in one line what kind of network this is."""
    found = [one for one in seen.registrations if one.failure is None]
    if not found:
        return
    kinds = [f"{one.family}: {_kind(one)}" if one.family else _kind(one) for one in found]
    shared = any(
        one.local is not None
        and ":" not in one.local.host
        and ipaddress.ip_address(one.local.host) in _SHARED
        for one in found
    )
    said = "; ".join(dict.fromkeys(kinds))
    if shared:
        said += "; the address is one that carriers share among many (RFC 6598)"
    facts = {
        "networks": {one.family: _kind(one) for one in found},
        "direct": {one.family: one.reachable for one in found},
        "mapping": {one.family: one.mapping.value for one in found},
    }
    yield Finding("good", "kind", said, facts=facts)


def _kind(one: RegistrationSeen) -> str:
    """Return the word that docs/nat.md has for a network."""
    if one.proxied:
        return "behind a proxy"
    if one.mapping is Mapping.NONE:
        if one.reachable is None:
            return "no NAT"
        return "open" if one.reachable else "stateful firewall"
    if not one.mapping.can_meet:
        return "symmetric NAT"
    if one.reachable or one.at_mapping:
        return "NAT that lets others in"
    if one.mapping is Mapping.ENDPOINT_INDEPENDENT:
        return "port-restricted NAT"
    return "not known" if one.observed is None else "NAT"


def _zone(seen: ZoneSeen) -> Iterator[Finding]:
    facts = {"zone": seen.zone, "seconds": seen.seconds}
    if seen.failure:
        yield Finding(
            "warning",
            "zone",
            f"{seen.zone}: {seen.failure}",
            "is the name server right ('server' in [ddns]), and does UDP and TCP port 53 pass?",
            facts | {"failure": seen.failure},
        )
        return
    took = "" if seen.seconds is None else f" in {seen.seconds * 1e3:.0f} ms"
    yield Finding("good", "zone", f"a name server answers for {seen.zone}{took}", facts=facts)
