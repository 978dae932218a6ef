"""Connections that keep what they are sent, for the relay's machines."""

import os
from typing import Any

from protocol.errors import Code
from protocol.identity import Identity
from protocol.messages import Message
from relay.limits import cause_of
from relay.tally import Figures

__all__ = ["FakeAttachment"]


class FakeAttachment:
    """A control connection of a peer."""

    def __init__(self, guid: str | None = None, flow: int = 0, instance: bytes = b"") -> None:
        self.guid = guid or Identity.generate().guid
        self.instance = instance or os.urandom(16)
        self.flow = flow
        self.observed_host = "127.0.0.1"
        self.features: frozenset[str] = frozenset()
        self.cause = cause_of(self.observed_host, self.guid)
        self.heard = 0.0
        self.asks: dict[Any, None] = {}
        self.asked: dict[Any, None] = {}
        self.had = Figures()
        self.got: list[Message] = []
        self.ended: list[Code] = []
        self.doubts: list[float] = []
        self.fails = False

    def send(self, message: Message) -> None:
        if self.fails:
            raise RuntimeError("nobody expected this")
        self.got.append(message)

    def doubt(self, now: float) -> None:
        self.doubts.append(now)

    def end(self, code: Code, reason: str) -> None:
        self.ended.append(code)
