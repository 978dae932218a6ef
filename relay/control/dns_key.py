"""The answer to a peer that asks for the key of its own name in the relay's zone."""

from protocol.errors import Code
from protocol.messages import DnsKeyRequest, DnsKeyResponse
from relay.control.handshake import Claim, check_key_request, sealed_key
from relay.control.reception import Reception

__all__ = ["dns_key"]


def dns_key(
    reception: Reception, claim: Claim, request: DnsKeyRequest, now: float
) -> DnsKeyResponse:
    """Return the answer to a peer whose claim is proven.

    Raises:
        RoamRelayError: the peer itself has not asked.
    """
    identity, dns, guid = reception.identity, reception.dns, claim.hello.guid
    check_key_request(identity, claim, request)
    if wait := reception.requests.take(guid, now):
        reason = f"too many requests: come back in {wait:.1f} s"
        return DnsKeyResponse(request.request, Code.LIMIT_EXCEEDED, reason)
    if dns is None:
        reason = "this relay serves no DNS zone"
        return DnsKeyResponse(request.request, Code.REFUSED, reason)
    sealed = sealed_key(identity, claim, request, dns.keys.secret(guid))
    return DnsKeyResponse(request.request, zone=dns.zone.name, port=dns.port, sealed=sealed)
