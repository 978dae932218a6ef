"""What operators ask over HTTP: whether the relay lives, whether it is ready, and its metrics.

Health is for whoever looks after the relay: a balancer has no token, and it tells nothing. Metrics
are for this host, or for who has the token.
"""

import hmac
import ipaddress
import os
import stat

from aiohttp import web
from aiohttp.typedefs import Handler

from protocol.errors import Code
from relay.config import ConfigError, RelayConfig
from relay.http import answers
from relay.http.door import Doorkeeper
from relay.http.visit import visitor_of
from relay.log import log
from relay.metrics import Metrics

__all__ = ["AdminRoutes", "AdminToken"]

_SHORTEST, _LONGEST = 16, 4_096
"""Characters of a token."""


class AdminToken:
    """The token of one relay, from its file; there may be none."""

    def __init__(self) -> None:
        self._token: bytes | None = None

    @property
    def is_asked(self) -> bool:
        """Whether there is one."""
        return self._token is not None

    @property
    def header(self) -> str:
        """What `Authorization` has to say; empty where there is none."""
        return "" if self._token is None else f"Bearer {self._token.decode('latin-1')}"

    def load(self, config: RelayConfig) -> None:
        """Read the file that a configuration names.

        Raises:
            ConfigError: there is no token in it; all is as it was.
        """
        self._token = None if config.admin_token is None else _read(config, config.admin_token)

    def take(self, other: "AdminToken") -> None:
        """Be what another one is."""
        self._token = other._token

    def is_shown(self, header: str) -> bool:
        """Whether this is what `Authorization` has to say."""
        scheme, _, shown = header.partition(" ")
        said = shown.strip().encode(errors="surrogateescape")
        # Compared in the same time, however much of it is right.
        return (
            self._token is not None
            and scheme.lower() == "bearer"
            and hmac.compare_digest(said, self._token)
        )


def _read(config: RelayConfig, name: str) -> bytes:
    file = config.in_state(name)
    try:
        with open(file, "rb") as opened:
            text = opened.read(_LONGEST + 2).removesuffix(b"\n").removesuffix(b"\r")
            mode = stat.S_IMODE(os.fstat(opened.fileno()).st_mode)
    except OSError as error:
        raise ConfigError(f"admin_token: {file} cannot be read: {error.strerror}") from None
    if not _SHORTEST <= len(text) <= _LONGEST:
        raise ConfigError(
            f"admin_token: a token of at least {_SHORTEST} characters, and at most {_LONGEST}, is "
            f"wanted in {file}"
        )
    if not all(33 <= character < 127 for character in text):
        raise ConfigError(
            f"admin_token: one line of ASCII with no spaces is wanted in {file}: "
            "'openssl rand -hex 32' prints one"
        )
    if os.name == "posix" and mode & 0o004:
        log.warning("others may read the token: run chmod 600", file=file)
    return text


class AdminRoutes:
    """The routes of one relay; `health` and `metrics` by path."""

    def __init__(self, doorkeeper: Doorkeeper, metrics: Metrics, token: AdminToken) -> None:
        self._doorkeeper = doorkeeper
        self._metrics = metrics
        self._token = token
        self.health: dict[str, Handler] = {"/healthz": self._healthz, "/readyz": self._readyz}
        self.metrics: dict[str, Handler] = {"/metrics": self._expose}

    async def _healthz(self, request: web.Request) -> web.Response:
        """Say that the process lives."""
        return web.Response(text="ok\n")

    async def _readyz(self, request: web.Request) -> web.Response:
        """Say whether new connections are welcome."""
        draining = self._doorkeeper.draining
        return web.Response(
            text="draining\n" if draining else "ok\n", status=503 if draining else 200
        )

    async def _expose(self, request: web.Request) -> web.Response:
        """Expose the metrics to Prometheus."""
        refusal = self.refusal(request)
        if refusal is not None:
            return refusal
        began = self._metrics.loop.clock()
        body, content_type = self._metrics.exposition(request.headers.get("Accept", ""))
        self._metrics.loop.served("metrics", request.remote or "", began)
        return web.Response(body=body, headers={"Content-Type": content_type})

    def is_for(self, request: web.Request) -> bool:
        """Whether who asks may know that there is something for operators: it is of this host, or
        there is a token that it may have."""
        return self._token.is_asked or _is_of_this_host(request)

    def refusal(self, request: web.Request, *, by_browser: bool = False) -> web.Response | None:
        """Return why a request is not answered; None where it is. What is for a browser is for
        this host under its own names alone: a page of somebody else's whose name leads here
        (DNS rebinding) would be believed to be of this host."""
        if by_browser and not self._token.is_asked and not _is_own_name(request):
            visitor_of(request).refused("not_for_others")
            reason = "without a token it is served at an address, as http://127.0.0.1, or localhost"
            return answers.json({"code": Code.REFUSED, "reason": reason}, 403)
        if not self._token.is_asked:
            if _is_of_this_host(request):
                return None
            visitor_of(request).refused("not_for_others")
            reason = (
                "the metrics are for the relay's own host: its operator can name a token "
                "(admin_token) for others, or an address of their own (admin_host)"
            )
            return answers.json({"code": Code.REFUSED, "reason": reason}, 403)
        if self._token.is_shown(request.headers.get("Authorization", "")):
            return None
        visitor_of(request).refused("bad_token")
        reason = "this wants the relay's token: Authorization: Bearer TOKEN"
        return answers.json(
            {"code": Code.REFUSED, "reason": reason}, 401, {"WWW-Authenticate": "Bearer"}
        )


def _is_own_name(request: web.Request) -> bool:
    """Whether a request is for an address, or for a name that nobody else can have."""
    try:
        host = (request.url.host or "").partition("%")[0]
    except ValueError:
        return False
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_of_this_host(request: web.Request) -> bool:
    """Whether nothing but this host has sent a request: it comes from a loopback address, or from
    the very one that it has come to."""
    origin = visitor_of(request).origin
    if origin.proxy or not origin.host or request.transport is None:
        return False
    own = request.transport.get_extra_info("sockname")
    if not own or not isinstance(own, tuple):
        return False  # The connection has gone meanwhile.
    here, there = (
        ipaddress.ip_address(host.partition("%")[0]) for host in (str(own[0]), origin.host)
    )
    here = getattr(here, "ipv4_mapped", None) or here
    return there.is_loopback or here == there
