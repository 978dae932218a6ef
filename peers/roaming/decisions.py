"""What the program says of sessions that others ask for: its function is asked once for each, and
whatever it does is its own affair. It may raise, hang or be cancelled: then the caller is refused.

How many wait for it is bounded, with a share for each caller.
"""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, field

from peers.config import log
from peers.roaming.crowd import Crowd
from peers.services import Accept, Refusal, SessionRequest
from peers.tasks import Tasks, calling
from protocol.errors import CallbackFailed, Code, Refused, RoamRelayError
from protocol.messages import Mode

__all__ = ["DECIDES_WITHIN", "Decisions"]

DECIDES_WITHIN = 3.0
"""Seconds for the program's function. A caller in `combined` turns to the relay after 4 s for all
of it, and every caller gives a path up after 10 s."""
_MAX_PENDING, _MAX_PENDING_EACH = 128, 16
"""Requests that wait for the program's function, in all and of one caller. Who has his share is
refused; where all is used, who has most loses the oldest."""

_NOT_TAKEN = "the application does not take this session"
_FAILED = Refusal(Code.INTERNAL, "the application failed to decide")
_LATE = Refusal(Code.REQUEST_TIMEOUT, "the application did not decide in time")
_CROWDED = Refusal(Code.LIMIT_EXCEEDED, "too many requests wait for the application")

_Key = tuple[bytes, str, str, Mode, bytes]
"""What is decided on: the session, its caller, the service, the mode, and the caller's word."""


@dataclass(eq=False, slots=True)
class _Pending:
    """A request that waits for the program."""

    answer: "asyncio.Future[Refusal | None]"
    task: "asyncio.Task[None] | None" = None
    timer: asyncio.TimerHandle | None = field(default=None)

    def decide(self, refusal: Refusal | None) -> None:
        """It is decided; only the first word counts."""
        if not self.answer.done():
            self.answer.set_result(refusal)


class Decisions:
    """Asks the functions of one peer's program. `tasks` own what runs."""

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._pending: dict[_Key, _Pending] = {}
        self._crowd: Crowd[_Pending] = Crowd(_MAX_PENDING, _MAX_PENDING_EACH)

    @property
    def pending(self) -> int:
        """How many functions run."""
        return len(self._pending)

    async def ask(
        self, session_id: bytes, request: SessionRequest, accept: Accept
    ) -> Refusal | None:
        """Return why the program refuses a session; None where it takes it. A caller that says
        hello again meanwhile, over another path, waits for the same word."""
        key = session_id, request.remote, request.service, request.mode, request.metadata
        pending = self._pending.get(key)
        if pending is None:
            if not self._crowd.has_room(request.remote):
                return _CROWDED
            pending = self._begin(key, request, accept)
        return await asyncio.shield(pending.answer)

    def _begin(self, key: _Key, request: SessionRequest, accept: Accept) -> _Pending:
        loop = asyncio.get_running_loop()
        pending = _Pending(loop.create_future())
        task = pending.task = self._tasks.spawn(self._decide(pending, request, accept))
        if task is None:
            pending.decide(_FAILED)
            return pending
        self._pending[key] = pending
        displaced = self._crowd.add(request.remote, pending)
        pending.timer = loop.call_later(DECIDES_WITHIN, self._late, pending, request)
        task.add_done_callback(lambda _: self._over(key, pending, request))
        if displaced is not None:
            displaced.decide(_CROWDED)
            if displaced.task is not None:
                displaced.task.cancel()
        return pending

    async def _decide(self, pending: _Pending, request: SessionRequest, accept: Accept) -> None:
        try:
            with calling("accept"):
                said = accept(request)
                if isinstance(said, Awaitable):
                    said = await said
            pending.decide(_read(said))
        except Refused as refused:
            pending.decide(Refusal(Code.REFUSED, _writable(refused.reason)))
        except RoamRelayError as error:
            pending.decide(_FAILED)
            # As asyncio tells of what a program's callback raises: to be seen also where the
            # program asks for no log.
            asyncio.get_running_loop().call_exception_handler(
                {
                    "message": f"accept of {request.service!r} failed; "
                    f"{request.remote[:8]} was refused",
                    "exception": error.__cause__ or error,
                }
            )

    def _late(self, pending: _Pending, request: SessionRequest) -> None:
        if not pending.answer.done():
            log.warning(
                "accept did not decide in time",
                service=request.service,
                peer=request.remote[:8],
                seconds=DECIDES_WITHIN,
            )
            pending.decide(_LATE)
        if pending.task is not None:
            pending.task.cancel()

    def _over(self, key: _Key, pending: _Pending, request: SessionRequest) -> None:
        """The function has ended. One that takes no notice of being cancelled counts until then."""
        pending.decide(_FAILED)  # Where it was cancelled before it said anything.
        if pending.timer is not None:
            pending.timer.cancel()
        self._crowd.remove(request.remote, pending)
        if self._pending.get(key) is pending:
            del self._pending[key]


def _read(said: object) -> Refusal | None:
    """Return what the program's function has said.

    Raises:
        CallbackFailed: that is no decision.
    """
    if said is True:
        return None
    if said is False:
        return Refusal(Code.REFUSED, _NOT_TAKEN)
    if isinstance(said, str):
        return Refusal(Code.REFUSED, _writable(said) or _NOT_TAKEN)
    raise CallbackFailed(f"accept returns True, False or a reason, not {said!r:.80}")


def _writable(reason: str) -> str:
    """Return a reason without halves of characters, which no message can hold."""
    return reason.encode("utf-8", "replace").decode()
