"""The message that replaces all of a peer's records (RFC 2136), if the zone still holds what it
follows.

Pure: what is followed and what shall be there in, the message out. It is signed in tsig.py and sent
in client.py beside it.
"""

import dns.update

from peers.dns.events import Followed
from protocol.dns_records import (
    MAX_ADDRESSES,
    TTL,
    RecordSets,
    address_name,
    peer_name,
    service_name,
)

__all__ = ["update_message"]


def update_message(
    guid: str, zone: str, followed: Followed, sets: RecordSets
) -> dns.update.UpdateMessage:
    """Return the message that leaves a peer `sets` and nothing else; none of them takes it out of
    the zone.

    It changes nothing where the zone holds another record than `followed`, or an alias at a name of
    `sets`. The names of addresses
    are known without asking, those of the services stand in the record that is followed. All
    deletions go before all additions.
    """
    message = dns.update.UpdateMessage(f"{zone}.")
    own = f"{peer_name(guid, zone)}."
    if texts := [text for text in (followed.text, *followed.others) if text]:
        message.present(own, "TXT", *texts)
    else:
        message.absent(own, "TXT")
    # A server leaves out what would stand beside an alias, and says NOERROR (RFC 2136 §3.4.2.2).
    for name in dict.fromkeys(name for name, _ in sets):
        message.absent(f"{name}.", "CNAME")
    for number in range(MAX_ADDRESSES):
        for kind in ("A", "AAAA"):
            message.delete(f"{address_name(number, guid, zone)}.", kind)
    names = {f"{name}." for name, kind in sets if kind in ("SRV", "TXT")} - {own}
    names |= {f"{service_name(one, guid, zone)}." for one in followed.record.services}
    for name in sorted(names):
        message.delete(name, "SRV")
        message.delete(name, "TXT")
    for kind in ("A", "AAAA"):
        message.delete(own, kind)
    if not followed.others:
        message.delete(own, "TXT")
    elif followed.text:
        message.delete(own, "TXT", followed.text)
    for (name, kind), data in sets.items():
        message.add(f"{name}.", TTL, kind, *data)
    return message
