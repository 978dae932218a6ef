"""A byte stream in the binary frames of a WebSocket, for proxies that pass nothing else.

This is the only module that needs aiohttp; it is imported when a WebSocket is opened first.
"""

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Sequence

import aiohttp
from yarl import URL

from peers.tasks import Spawn
from peers.transport.relay_url import RelayAddress
from peers.transport.stream import HIGH_WATER, StreamOwner
from protocol.errors import Code, RelayUnavailable
from protocol.hosts import describe
from protocol.messages import CODE_HEADER, RESUME_HEADER, WEBSOCKET_PROTOCOL

__all__ = ["WebSocketStream", "open_websocket"]

_WRITE_DEADLINE = 10.0
"""Seconds for which a relay may leave our bytes unread before the stream is given up."""


class _Ended(Exception):
    """Ends the tasks of a WebSocket stream; says why."""


class WebSocketStream:
    """A stream whose bytes travel in binary WebSocket frames. `run` must be run by a task."""

    def __init__(
        self,
        websocket: aiohttp.ClientWebSocketResponse,
        session: aiohttp.ClientSession,
        write_deadline: float,
    ) -> None:
        self._websocket = websocket
        self._session = session
        self._write_deadline = write_deadline
        self._owner: StreamOwner | None = None
        self._owned = asyncio.Event()
        self._outbox: deque[bytes] = deque()
        self._waiting = 0
        self._wake = asyncio.Event()
        self._aborted = asyncio.Event()
        self._closing = False
        self._paused = False
        self.resume_ticket = ""
        self.local = describe(websocket.get_extra_info("sockname"))
        self.remote = describe(websocket.get_extra_info("peername"))

    @property
    def paused(self) -> bool:
        return self._paused

    def set_owner(self, owner: StreamOwner) -> None:
        self._owner = owner
        self._owned.set()

    def write(self, data: bytes) -> None:
        if not self._closing:
            self._outbox.append(data)
            self._waiting += len(data)
            self._paused = self._waiting > HIGH_WATER
            self._wake.set()

    def close(self) -> None:
        self._closing = True
        self._wake.set()

    def abort(self) -> None:
        self._closing = True
        self._aborted.set()

    async def run(self) -> None:
        """Carry bytes both ways until the stream ends. Returns when it is closed and freed."""
        reason = "end of stream"
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read_all())
                tasks.create_task(self._write_all())
                await self._aborted.wait()
                raise _Ended("closed here")
        except* _Ended as ended:
            reason = str(ended.exceptions[0])
        except* (aiohttp.ClientError, OSError, TimeoutError) as failed:
            reason = str(failed.exceptions[0]) or type(failed.exceptions[0]).__name__
        finally:
            self._closing = True
            self._outbox.clear()
            with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
                async with asyncio.timeout(self._write_deadline):
                    await self._websocket.close()
            await self._session.close()
            if self._owner is not None:
                self._owner.stream_lost(reason)

    async def _read_all(self) -> None:
        await self._owned.wait()
        assert self._owner is not None
        async for message in self._websocket:
            if message.type is not aiohttp.WSMsgType.BINARY:
                raise _Ended("a WebSocket frame that is not binary")
            self._owner.stream_data(message.data)
        raise _Ended("end of stream")

    async def _write_all(self) -> None:
        while True:
            while self._outbox:
                data = b"".join(self._outbox)
                self._outbox.clear()
                async with asyncio.timeout(self._write_deadline):
                    await self._websocket.send_bytes(data)
                self._waiting -= len(data)
                if self._paused and self._waiting <= HIGH_WATER // 4 and self._owner is not None:
                    self._paused = False
                    self._owner.stream_writable()
            if self._closing:
                async with asyncio.timeout(self._write_deadline):
                    await self._websocket.close()
                raise _Ended("closed here")
            self._wake.clear()
            await self._wake.wait()


async def open_websocket(
    relay: RelayAddress,
    path: str,
    local_address: str | None,
    more: Sequence[tuple[str, str]],
    spawn: Spawn,
) -> WebSocketStream:
    connector = aiohttp.TCPConnector(
        local_addr=(local_address, 0) if local_address else None,
        ssl=relay.ssl or False,
        family=socket.AF_UNSPEC,
        force_close=True,
    )
    session = aiohttp.ClientSession(connector=connector, trust_env=True)
    url = relay.url.with_port(relay.port).join(URL(path, encoded=True))
    try:
        websocket = await session.ws_connect(
            url,
            headers=more,
            protocols=(WEBSOCKET_PROTOCOL,),
            compress=0,
            max_msg_size=1 << 22,
            server_hostname=relay.certificate_name,
            timeout=aiohttp.ClientWSTimeout(ws_close=1.0),
        )
    except aiohttp.WSServerHandshakeError as error:
        await session.close()
        told = error.headers.get(CODE_HEADER) if error.headers else None
        raise RelayUnavailable(
            f"the relay answered with HTTP status {error.status}, not a WebSocket"
            + (f": {told[:64]}" if told else ""),
            code=Code(told) if told else None,
        ) from None
    except aiohttp.ClientError as error:
        await session.close()
        raise RelayUnavailable(f"cannot connect to {relay}: {error}") from None
    except BaseException:
        await session.close()
        raise
    stream = WebSocketStream(websocket, session, _WRITE_DEADLINE)
    # aiohttp keeps the headers of the 101 there and nowhere public.
    stream.resume_ticket = websocket._response.headers.get(RESUME_HEADER, "")
    spawn(stream.run())
    return stream
