"""What a router answers, or who claims to be one."""

from peers.gateway import Lease
from peers.gateway.lease import State

__all__ = ["NONCE", "answers"]

NONCE = b"n" * 12


def answers(data: bytes) -> None:
    """Whatever comes, and when: a lease knows what is next, and has an endpoint only where it says
    that a port is mapped. Each answer has its length before it, in one byte."""
    lease, now = Lease("192.168.1.2", 40000, NONCE, 0.0), 0.0
    while data:
        for datagram in lease.handle_timeout(now):
            assert len(datagram) <= 60
        end = 1 + data[0]
        lease.receive(data[1:end], now)
        data = data[end:]
        if lease.state is State.HELD:
            assert lease.mapped is not None
            assert lease.mapped.port > 0
        due = lease.next_timeout()
        assert due is not None
        now = max(now, due)
    assert len(lease.close()) <= 1
    assert lease.mapped is None
