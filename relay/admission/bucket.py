"""What a book needs of the bucket that all nodes of a cluster share; `relay.cluster` has one."""

from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

__all__ = ["Bucket"]


class Bucket(Protocol):
    """What all nodes share: values under keys, each change with a revision, heard in one order."""

    async def serve(self, follower: Any) -> None: ...

    def name(self, text: str) -> str: ...

    def again(self) -> None: ...

    async def put(
        self, key: str, value: bytes, *, last: int | None = None, lifetime: float | None = None
    ) -> int: ...

    async def drop(self, key: str) -> int: ...

    def waiting(self) -> AbstractAsyncContextManager[None]: ...
