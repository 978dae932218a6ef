"""What the relay itself answers to a peer that is registered; what leads to others is elsewhere."""

from protocol.errors import Code
from protocol.features import ENDPOINT_QUERY
from protocol.messages import (
    DnsKeyRequest,
    DnsKeyResponse,
    EndpointQuery,
    EndpointResponse,
    Error,
)
from relay.control.handshake import Claim, check_key_request, sealed_key
from relay.control.reception import Reception

__all__ = ["dns_key", "endpoint_refusal"]


def dns_key(
    reception: Reception, claim: Claim, request: DnsKeyRequest, now: float
) -> DnsKeyResponse:
    """Return the key of a peer's name in the relay's zone, or why there is none.

    Raises:
        RoamRelayError: it is not the peer that asks.
    """
    dns, guid = reception.dns, claim.hello.guid
    check_key_request(claim, request)
    if wait := reception.requests.take(guid, now):
        reason = f"too many requests: come back in {wait:.1f} s"
        return DnsKeyResponse(request.request, Code.LIMIT_EXCEEDED, reason)
    if dns is None:
        reason = "this relay serves no DNS zone"
        return DnsKeyResponse(request.request, Code.REFUSED, reason)
    sealed = sealed_key(claim, request, dns.keys.secret(guid))
    return DnsKeyResponse(request.request, zone=dns.zone.name, port=dns.port, sealed=sealed)


def endpoint_refusal(
    reception: Reception, claim: Claim, query: EndpointQuery, now: float
) -> EndpointResponse | Error | None:
    """Return why a peer may not ask about an endpoint now; None where it may, and is charged."""
    if ENDPOINT_QUERY not in claim.features:
        return Error(Code.UNKNOWN_TYPE, "the feature endpoint-query was not named")
    if wait := reception.requests.take(claim.hello.guid, now):
        code, reason = Code.LIMIT_EXCEEDED, "too many requests"
        return EndpointResponse(query.request, code=code, reason=reason, retry_after=wait)
    return None
