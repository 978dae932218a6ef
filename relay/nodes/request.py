"""Asking a process over HTTP, at its own address on this machine."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

__all__ = ["NO_ANSWER", "asked"]

_PATIENCE = 10.0
"""Seconds for a process to begin its answer."""

NO_ANSWER = (OSError, TimeoutError, ValueError, EOFError, asyncio.LimitOverrunError)
"""What `asked`, and reading what it yields, raises where there is no answer."""


@contextlib.asynccontextmanager
async def asked(
    url: str, path: str, authorization: str, longest: int
) -> AsyncIterator[tuple[int, asyncio.StreamReader]]:
    """Ask for a path; yield the status of the answer, and what brings the rest of it."""
    parts = urlsplit(url)
    # By HTTP/1.0 it is not in chunks: it ends with the connection.
    lines = [f"GET {path} HTTP/1.0", f"Host: {parts.netloc}"]
    if authorization:
        lines.append(f"Authorization: {authorization}")
    async with asyncio.timeout(_PATIENCE):
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=longest)
    try:
        writer.write("\r\n".join((*lines, "", "")).encode("latin-1"))
        async with asyncio.timeout(_PATIENCE):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        yield int(head.split(maxsplit=2)[1]), reader
    finally:
        writer.transport.abort()
