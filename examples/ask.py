"""A web application with a peer in it: `GET /ask?text=…` asks a contact, and answers what it says.

python examples/ask.py RELAY-URL GUID PORT

It stops within two seconds also while its handlers wait for a contact that is dead.
"""

import sys

from aiohttp import web

from peers import (
    Identity,
    Peer,
    PeerConfig,
    PeerOffline,
    RequestTimeout,
    RoamRelayError,
    SessionLost,
    UnknownPeer,
)

PEER = web.AppKey("peer", Peer)


def application(relay: str, contact: str) -> web.Application:
    """Return the application: its peer lives as long as it serves."""

    async def open_peer(app: web.Application) -> None:
        config = PeerConfig(close_timeout=1.0)
        app[PEER] = await Peer(Identity.generate(), relay, config=config).start()

    async def close_peer(app: web.Application) -> None:
        await app[PEER].close()

    async def ask(request: web.Request) -> web.Response:
        try:
            async with await request.app[PEER].connect(contact, "chat") as session:
                await session.send(request.query.get("text", "").encode())
                return web.Response(text=(await session.receive()).decode(errors="replace"))
        except (PeerOffline, UnknownPeer) as error:
            return web.Response(status=503, text=f"{error}\n")
        except (RequestTimeout, SessionLost) as error:
            return web.Response(status=504, text=f"{error}\n")
        except RoamRelayError as error:
            return web.Response(status=502, text=f"{error}\n")

    app = web.Application()
    app.on_startup.append(open_peer)
    # And not on_cleanup: that comes after the handlers, which may wait for the contact.
    app.on_shutdown.append(close_peer)
    app.router.add_get("/ask", ask)
    return app


if __name__ == "__main__":
    web.run_app(
        application(sys.argv[1], sys.argv[2]),
        host="127.0.0.1",
        port=int(sys.argv[3]),
        print=lambda line: print(line, flush=True),
    )
