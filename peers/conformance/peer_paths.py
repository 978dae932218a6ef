"""What a peer does with a path that somebody dials to it: TLS, both keys, and the hello."""

from typing import Any

from OpenSSL import SSL

from peers.conformance import vectors
from peers.conformance.checks import Checks
from peers.conformance.credentials import Credentials, odd_credentials, own, unwanted
from peers.conformance.end import End
from peers.conformance.faults import Fault, NotApplicable
from peers.conformance.opened import Opened, PathRefused
from peers.conformance.peer_stage import PEER, SERVICE, PeerStage
from peers.conformance.pipes import TlsPipe
from peers.conformance.talk import packed
from protocol.identity import Identity

__all__: list[str] = []

check: Checks[PeerStage] = PEER


# -- TLS ------------------------------------------------------------------------------------------


@check("R10.3", "shows a certificate with its own key")
@check("R10.9", "speaks TLS 1.3")
async def certificate(stage: PeerStage) -> None:
    peer = await stage.standing()
    peer.need_tls()
    path = await peer.path(Identity.generate(), peer.end())
    pipe = path.pipe
    if isinstance(pipe, TlsPipe) and pipe.version != "TLSv1.3":
        raise Fault(f"speaks {pipe.version}")
    pipe.abort()


@check("R10.9", "speaks no older TLS than 1.3")
async def older_tls(stage: PeerStage) -> None:
    peer = await stage.standing()
    peer.need_tls()
    caller = Identity.generate()
    try:
        path = await peer.path(caller, peer.end(), own(caller, newest=SSL.TLS1_2_VERSION))
    except Fault as fault:
        if "TLS handshake" in str(fault):
            return
        raise
    path.pipe.abort()
    raise Fault("takes TLS 1.2")


async def _not_welcomed(peer: Opened, credentials: Credentials) -> None:
    """A hello with these credentials must not be answered."""
    peer.need_tls()
    end = peer.end()
    try:
        path = await peer.path(Identity.generate(), end, credentials)
    except Fault:
        return
    path.put(end.hello())
    if said := await path.closed("with a client that has not proven a key"):
        raise Fault(f"answers {said[0]} to a client that has not proven a key")


@check("R10.4", "takes no path from a client without a certificate")
async def no_certificate(stage: PeerStage) -> None:
    await _not_welcomed(await stage.standing(), unwanted(shows_certificate=False))


@check("R10.6", "takes no path from a client with a key of another kind")
async def another_kind_of_key(stage: PeerStage) -> None:
    await _not_welcomed(await stage.standing(), unwanted(shows_certificate=True))


@check("R10.8", "looks at nothing in a certificate but its key")
async def odd_certificate(stage: PeerStage) -> None:
    peer = await stage.standing()
    peer.need_tls()
    caller, other = Identity.generate(), Identity.generate()
    end = peer.end()
    await end.take(await peer.path(caller, end, odd_credentials(caller, other)))
    end.send(b"hello")
    if await end.messages(1) != [b"hello"]:
        raise Fault("the message did not come back")
    end.path.pipe.abort()


@check("R10.15", "ends a stream that is no TLS, and goes on")
async def no_tls(stage: PeerStage) -> None:
    peer = await stage.standing()
    peer.need_direct()
    pipe = await peer.dials.dial(*peer.at_relay.endpoint(SERVICE))
    pipe.send(b"GET / HTTP/1.1\r\n\r\n" * 10)
    await pipe.end()
    (await peer.path(Identity.generate(), peer.end())).pipe.abort()


@check("R10.14", "drops a path on which nothing is said for 10 s", slow=True)
async def silent_caller(stage: PeerStage) -> None:
    peer = await stage.standing()
    path = await peer.path(Identity.generate(), peer.end())
    await path.closed("after 10 s without a hello", 20.0)


# -- the head -------------------------------------------------------------------------------------


@check("R10.2", "is TLS server where it is dialed")
@check("R10.23", "takes in `p2p` a direct path for a session that nobody has announced")
async def dialed(stage: PeerStage) -> None:
    peer = await stage.standing()
    peer.need_direct()
    (await peer.session()).path.pipe.abort()


@check("R10.12", "welcomes a hello for its service")
@check("R10.17", "welcomes it with numbers of 0 and a window of 1,024 at least")
async def welcome(stage: PeerStage) -> None:
    peer = await stage.standing()
    for revised in (False, None):
        end = await peer.session(revised=revised)
        said = end.welcome
        numbers = [said.get(name, 0) for name in ("received", "consumed", "partial")]
        if numbers != [0, 0, 0]:
            raise Fault(f"a new session begins with {numbers}")
        if said.get("window", 8 << 20) < 1024:
            raise Fault(f"a window of {said['window']}")
        end.path.pipe.abort()


@check("R4.9", "passes over keys in a hello that it does not know")
@check("R15.7", "passes over features that it does not know")
async def later_hello(stage: PeerStage) -> None:
    peer = await stage.standing()
    end = peer.end()
    path = await peer.path(Identity.generate(), end)
    path.put(end.hello(later={"x": [None, b"y"]}, features=["of-a-later-version"], idle=30.0))
    await path.expect("path_welcome")
    path.pipe.abort()


@check("R10.12", "reads a hello in whatever pieces it comes")
async def hello_in_pieces(stage: PeerStage) -> None:
    peer = await stage.standing()
    end = peer.end()
    path = await peer.path(Identity.generate(), end)
    for byte in packed(end.hello()):
        path.pipe.send(bytes([byte]))
        await path.pipe.flush()
    await path.expect("path_welcome")
    path.pipe.abort()


def _refused(vector: dict[str, Any]) -> None:
    code = vector["code"]
    what = f"answers `{code}` to" if code else "closes the path without a word at"

    @check(str(vector["rule"]), f"{what} {vector['what']} in a hello")
    async def refused_hello(stage: PeerStage) -> None:
        peer = await stage.standing()
        end, data = peer.end(), vectors.whole(vector)
        if not peer.ways.direct:
            data = _on_a_plane(vector, data, end)
        path = await peer.path(Identity.generate(), end)
        path.pipe.send(data)
        said = await path.closed("behind a hello that is refused")
        wanted = [] if code is None else [("path_reject", code)]
        if [(one.get("type"), one.get("code")) for one in said] != wanted:
            raise Fault(f"says {said or 'nothing'}")
        if code and not path.pipe.ended_in_order:
            raise Fault("a path that is refused ends without the close of its lock (R10.11)")


def _on_a_plane(vector: dict[str, Any], data: bytes, end: End) -> bytes:
    """Return the bytes of a hello in `p2p` as they are over a plane that was asked for.

    Raises:
        NotApplicable: it is of a direct path alone.
    """
    if vector["rule"] == "R10.22":
        raise NotApplicable("the peer takes no direct paths")
    if vector["rule"] == "R10.25":
        raise NotApplicable("over a plane the session is known, as it was announced")
    if vector["code"] == "unknown_service":
        raise NotApplicable("over a plane a service is refused with the request (R7.18)")
    return data.replace(_SESSION, end.id).replace(b"\xa3p2p", packed(end.mode))


_SESSION = bytes.fromhex("5e551017000000000000000000000001")
"""The one of the vectors."""
for one in vectors.load()["refused_path_hellos"]:
    _refused(one)


async def _rejected(
    peer: Opened, caller: Identity, end: End, code: str, *, number: int = 1, **changed: object
) -> None:
    """A path with this hello must be refused by this code: there, or with the request for it."""
    try:
        path = await peer.path(caller, end)
    except PathRefused as refused:
        said: object = refused.code
    else:
        path.put(end.hello(path=number, **changed))
        said = (await path.expect("path_reject")).get("code")
    if said != code:
        raise Fault(f"refuses with {said}, not {code}")


@check("R10.62", "takes a path whatever the metadata says, a first one and a later one")
async def metadata(stage: PeerStage) -> None:
    peer = await stage.standing()
    caller, end = Identity.generate(), peer.end()
    await end.take(await peer.path(caller, end), metadata=bytes(1_024))
    end.number += 1
    await end.take(await peer.path(caller, end), metadata=b"another word")
    end.send(b"hello")
    if await end.messages(1) != [b"hello"]:
        raise Fault("the message did not come back")
    end.path.pipe.abort()


@check("R10.20", "gives a session to nobody else, whoever names its number")
async def stolen_session(stage: PeerStage) -> None:
    peer = await stage.standing()
    end = await peer.session()
    await _rejected(peer, Identity.generate(), end, "session_unknown", number=2)
    end.send(b"still here")
    await end.messages(1)
    end.path.pipe.abort()


@check("R10.25", "knows a session by its service and mode too")
async def another_mode(stage: PeerStage) -> None:
    peer = await stage.standing()
    end = await peer.session()
    await _rejected(peer, end.caller, end, "session_unknown", number=2, mode="auto")
    end.send(b"still here")
    await end.messages(1)
    end.path.pipe.abort()


@check("R10.26", "refuses a path whose number is not a newer one")
@check("R10.30", "takes of two paths with one number only the first that the caller dials")
async def path_numbers(stage: PeerStage) -> None:
    peer = await stage.standing()
    end = await peer.session()
    end.number = 4
    old = await end.move()
    old.pipe.abort()
    for number in (1, 4, 5):
        await _rejected(peer, end.caller, end, "path_superseded", number=number)
    end.send(b"still here")
    await end.messages(1)
    end.path.pipe.abort()


@check("R10.27", "opens a new session for a caller whose last one it has refused")
async def after_a_refusal(stage: PeerStage) -> None:
    peer = await stage.standing()
    caller = Identity.generate()
    await _rejected(peer, caller, peer.end("none"), "unknown_service")
    end = peer.end()
    await end.take(await peer.path(caller, end))
    end.path.pipe.abort()
