"""All targets, by name."""

from collections.abc import Callable
from pathlib import Path

from tests.fuzz import (
    codec,
    configs,
    control,
    conversations,
    flights,
    gateways,
    hosts,
    http,
    letters,
    locks,
    names,
    sessions,
)

__all__ = ["CORPUS", "TARGETS", "corpus_of"]

TARGETS: dict[str, Callable[[bytes], None]] = {
    "codec": codec.messages,
    "values": codec.values,
    "records": codec.records,
    "control-relay": control.at_the_relay,
    "control-peer": control.at_the_peer,
    "letters": letters.letters,
    "conversations": conversations.frames,
    "conversation-letters": conversations.enclosed,
    "flights": flights.flights,
    "locks": locks.locks,
    "gateway-answers": gateways.answers,
    "session-frames": sessions.frames,
    "session-2-frames": sessions.frames_2,
    "session-pairs": sessions.pairs,
    "session-2-pairs": sessions.pairs_2,
    "dns-questions": names.questions,
    "dns-updates": names.updates,
    "dns-answers": names.answers,
    "http-requests": http.requests,
    "raw-requests": http.raw_requests,
    "proxy-headers": http.proxy_headers,
    "forwarded": http.forwarded,
    "upgrade-answers": http.upgrade_answers,
    "proxy-answers": http.proxy_answers,
    "netlink": hosts.netlink,
    "observations": hosts.observations,
    "urls": hosts.urls,
    "places": hosts.places,
    "policies": hosts.policies,
    "relay-files": configs.relay_files,
    "peer-files": configs.peer_files,
    "environments": configs.environments,
}

CORPUS = Path(__file__).parent / "corpus"
"""A folder for each target: inputs that lead far, and those that were findings once."""


def corpus_of(target: str) -> list[bytes]:
    """Return the inputs of a target that are kept."""
    return [file.read_bytes() for file in sorted((CORPUS / target).iterdir())]
