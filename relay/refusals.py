"""Who was refused, or ended before it was proven who it is: counted by reason, and each reason said
once a second at most, with a source.

`REASONS` is the table of them all.
"""

from collections import Counter
from collections.abc import Callable
from time import monotonic

from relay.log import log

__all__ = ["REASONS", "UNPROVEN", "Refusals"]

REASONS = {
    "silent": "no first byte within `handshake_timeout`",
    "late": "no whole TLS handshake, or no whole request, within `handshake_timeout`",
    "unread": "an answer that was not read within `write_deadline`",
    "bad_tls": "no TLS that can be read",
    "bad_http": "no HTTP that can be read",
    "crowded_out": "`max_newcomers` is reached; this one came from the network that has most",
    "descriptors": "the same, where file descriptors run out",
    "too_many": "`max_connections` is reached",
    "too_many_per_address": "`max_connections_per_address` is reached",
    "too_often": "`connects_per_second` is reached",
    "draining": "the relay goes down",
    "foreign_page": "a WebSocket of a page whose origin `page_origins` does not name",
    "untrusted_proxy": "a header of the PROXY protocol from whom `trusted_proxies` does not name",
    "bad_proxy_header": "a header of the PROXY protocol that cannot be read",
    "bad_forwarding": "`Forwarded` or `X-Forwarded-For` that cannot be read, or two answers",
    "stripped_upgrade": "a proxy has dropped the Upgrade header",
    "upgrade_required": "a request that asks for no upgrade, where there is nothing else",
    "work": "a request over HTTP for which its network has no time left (`work_per_network`)",
    "bad_token": "a request for the metrics, or what the dashboard shows, without `admin_token`, "
    "or with another one",
    "not_for_others": "one from another host, where there is no `admin_token`",
    "handshake_timeout": "an upgrade, and no registration within `handshake_timeout`",
    "bad_message": "a message, a leg's early bytes or its signature that cannot be read",
    "message_too_large": "a control message that is too long",
    "unexpected_message": "a control message that may not come yet",
    "version_unsupported": "another version of the protocol",
    "bad_guid": "a GUID that is no key",
    "bad_signature": "a registration that the GUID's key has not signed",
    "stale_sequence": "a registration with a number that is not new",
    "slow_consumer": "control messages that were not read within `write_deadline`",
    "banned": "an operator has banned the peer, or its network",
    "not_listed": "not on the list, and no invitation was shown",
    "forged": "an invitation that no operator of this relay has made for this peer",
    "expired": "its invitation, or the time that it admits for, has ended",
    "used_up": "its invitation has been used as often as it may",
    "revoked": "its admission, or its invitation, was taken back",
    "refused": "by the function of the program that embeds the relay",
    "failed": "that function, or the store, has failed",
    "timed_out": "that function did not decide within `admission_timeout`",
    "busy": "too many peers wait to be admitted, or invitations of one network to be looked at",
    "ticket_unknown": "a leg with a ticket that the relay does not know",
    "ticket_used": "a leg with a ticket that was used",
    "ticket_expired": "a leg that came too late",
    "ticket_foreign": "a leg with somebody else's ticket",
    "planes": "a leg for which its peer, or its network, has too many planes",
    "too_many_requests": "a leg that comes back, above `requests_per_second`",
    "peer_offline": "a leg that comes back while the other peer is away",
    "dns_per_address": "a TCP connection to the zone: `max_connections_per_address` of `[dns]`",
    "dns_too_many": "a TCP connection to the zone: `max_connections` of `[dns]`; of the network "
    "that has most, the one that was quiet longest",
    "no_question": "at `observe_port`, something else than is asked there",
    "operators": "one more program at the operator's socket than are heard at once",
    "other": "a reason that is none of these",
}
"""What each is."""

UNPROVEN = frozenset(
    {
        *("handshake_timeout", "bad_message", "message_too_large", "unexpected_message"),
        *("version_unsupported", "bad_guid", "bad_signature", "stale_sequence", "slow_consumer"),
    }
)
"""Codes that end a control connection, and count where it has not registered."""

_USUAL = frozenset(
    {
        *("silent", "late", "unread", "bad_tls", "bad_http", "upgrade_required"),
        "no_question",
        *("handshake_timeout", "not_listed", "banned", "revoked", "expired", "used_up", "refused"),
        *("ticket_used", "ticket_expired", "peer_offline"),
    }
)
"""What any relay meets all day."""


class Refusals(Counter[str]):
    """How many there were, by reason. `clock` is any that only grows, in seconds."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._logged: dict[str, float] = {}
        self._unlogged: dict[str, int] = {}

    def add(self, reason: str, source: str, **words: str) -> None:
        """Count one, and say so where this reason was not said within the last second. An empty
        source is nobody's that is known; `words` stand in the line besides."""
        reason = reason if reason in REASONS else "other"
        self[reason] += 1
        now = self._clock()
        last = self._logged.get(reason)
        if last is not None and now - last < 1.0:
            self._unlogged[reason] = self._unlogged.get(reason, 0) + 1
            return
        self._logged[reason] = now
        more = self._unlogged.pop(reason, 0)
        said = {name: word for name, word in words.items() if word}
        source = source or "unknown"
        if reason in _USUAL:
            log.info("refused", reason=reason, source=source, unlogged=more, **said)
        else:
            log.warning("refused", reason=reason, source=source, unlogged=more, **said)
