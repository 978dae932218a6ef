"""The conformance kit: whether a peer or a relay of any origin keeps to docs/protocol.md."""

from peers.conformance.vectors import Vectors

__all__ = ["Vectors"]
