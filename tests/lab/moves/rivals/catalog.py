"""The rivals: which there are, what each needs here, and what it had to be helped with."""

import importlib.util
import socket
from dataclasses import dataclass

__all__ = ["RIVALS", "Rival", "rival"]

_TOLD = "told of each change of the network at once, as a phone's system would"


@dataclass(frozen=True)
class Rival:
    """Something else that keeps a conversation, or tries to."""

    name: str
    title: str
    helped: str
    """What its program here does that the library by itself does not."""
    library: str = ""
    """The module of Python that it needs."""
    is_served: bool = False
    """Whether both sides are clients of a server between them."""

    @property
    def module(self) -> str:
        """Its program."""
        return f"tests.lab.moves.rivals.{self.name}_party"

    @property
    def missing(self) -> str:
        """Return what this machine lacks for it, in words; nothing where it has all."""
        if self.library and importlib.util.find_spec(self.library) is None:
            return f"{self.library} is not installed (the extra `rivals`)"
        if self.name == "mptcp":
            try:
                socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_MPTCP).close()
            except OSError as error:
                return f"the kernel has no MPTCP: {error.strerror}"
        return ""


RIVALS = (
    Rival(
        "quic",
        "QUIC (aioquic), with connection migration",
        f"the side that dialed is {_TOLD}, and then takes a new connection ID and pings; the"
        " certificate is not checked",
        "aioquic",
    ),
    Rival(
        "mptcp",
        "MPTCP of the kernel",
        "`ip mptcp endpoint` adds and removes each address as it comes and goes (`subflow` at the"
        " side that dialed, `signal` at the other), and the limits are raised to four subflows; no"
        " encryption",
    ),
    Rival(
        "iroh",
        "iroh, direct",
        "no relay and no discovery, which are programs of its own: the caller is given the callee's"
        " first address, and nothing tells it of another one but iroh itself",
        "iroh",
    ),
    Rival(
        "websocket",
        "WebSocket (aiohttp) that reconnects and resends",
        "numbers, acknowledgements, sending again and dropping what came twice are written by"
        f" hand; pings every 0.5 s; the client is {_TOLD}, and redials then; no encryption",
        "aiohttp",
    ),
    Rival(
        "nats",
        "NATS (nats-py and nats-server)",
        "pings every 0.5 s and not every 2 minutes, redials after 0.1 s and not 2 s, and without"
        f" an end; the side that moves is {_TOLD}, and forces a reconnect then; core NATS, so that"
        " what a dead connection had in it is gone; no encryption",
        "nats",
        is_served=True,
    ),
)


def rival(name: str) -> Rival:
    """Return the rival of this name."""
    return next(one for one in RIVALS if one.name == name)
