"""The operator's desk of several processes that are one relay: each is asked, and one answer made.

What the operator has said is in one book for all. What is asked of all is the same everywhere, so
that it holds at each of them when it is said to be done.
"""

import asyncio
from collections.abc import Callable, Mapping
from time import time

from msgspec import structs

from relay.log import log
from relay.operator import (
    Answer,
    Asked,
    Bans,
    Done,
    Drain,
    Failed,
    Forget,
    Invitations,
    NodeShown,
    OperatorError,
    Peers,
    PeersShown,
    Status,
    StatusShown,
    Top,
    TopShown,
    ask,
)

__all__ = ["NodesDesk"]

_LISTS = Bans | Invitations | Peers | Status | Top
_PATIENCE = 5.0
"""Seconds for a process to answer: one that hangs is named, and the others are shown. Who asks
waits for 30 s."""
_FIRST = 18.0
"""Seconds in which the first one that is to write something is looked for."""


class NodesDesk:
    """`sockets` are the doors of the processes, by their names; `drain` ends them all."""

    def __init__(
        self,
        sockets: Mapping[str, str],
        state: str | None,
        admin_urls: tuple[str, ...],
        drain: Callable[[], None],
    ) -> None:
        self._sockets = sockets
        self._state = state
        self._admin_urls = admin_urls
        self._drain = drain
        self._started = time()

    def turned_away(self) -> None:
        """Somebody could not be heard: too many are being heard."""
        log.warning("an operator was turned away: too many ask at once")

    async def do(self, asked: Asked) -> Answer:
        """Do what is asked, at every process."""
        if isinstance(asked, Drain):
            self._drain()
            return Done("all nodes", "drains", 0)
        if isinstance(asked, _LISTS):
            found = await self._ask(self._sockets, asked)
        else:
            found = await self._ask_first(asked)
        if not found:
            return Failed("no node answers now: its log says why")
        silent = tuple(name for name in self._sockets if name not in found)
        return _with_silent(self._joined(asked, found), silent)

    async def _ask_first(self, asked: Asked) -> dict[str, Answer]:
        """Ask the first one that answers, and then the others: what is written is in one book, and
        the first one says what has come of it."""
        found: dict[str, Answer] = {}
        rest = dict(self._sockets)
        loop = asyncio.get_running_loop()
        end = loop.time() + _FIRST
        while rest and not found and loop.time() < end:
            name = next(iter(rest))
            found = await self._ask({name: rest.pop(name)}, asked)
        return found | await self._ask(rest, asked) if found else found

    async def _ask(self, sockets: Mapping[str, str], asked: Asked) -> dict[str, Answer]:
        """Ask all of these at once; return what those say that answer in time."""

        async def answer(name: str, path: str) -> Answer | None:
            try:
                async with asyncio.timeout(_PATIENCE):
                    return await ask(path, asked)
            except (OperatorError, TimeoutError) as error:
                reason = str(error) or f"no answer in {_PATIENCE:g} s"
                log.warning("a node could not be asked", process=name, reason=reason)
                return None

        answers = await asyncio.gather(*(answer(*one) for one in sockets.items()))
        found = zip(sockets, answers, strict=True)
        return {name: one for name, one in found if one is not None}

    def _joined(self, asked: Asked, found: Mapping[str, Answer]) -> Answer:
        answers = list(found.values())
        done = {name: one for name, one in found.items() if isinstance(one, Done)}
        if done:
            first = next(iter(done.values()))
            # What each keeps is its own. The rest is in one book: the first has done it for all.
            said = _said(found) if isinstance(asked, Forget) else first.said
            return structs.replace(first, said=said, ended=sum(one.ended for one in done.values()))
        statuses = {name: one for name, one in found.items() if isinstance(one, StatusShown)}
        if statuses:
            return self._status(statuses)
        peers = [one for one in answers if isinstance(one, PeersShown)]
        if peers and isinstance(asked, Peers):
            rows = [peer for one in peers for peer in one.peers]
            return PeersShown(sum(one.total for one in peers), tuple(rows[: asked.limit]))
        tops = [one for one in answers if isinstance(one, TopShown)]
        if tops and isinstance(asked, Top):
            return _top(tops, asked)
        return answers[0]

    def _status(self, found: Mapping[str, StatusShown]) -> StatusShown:
        nodes = tuple(
            NodeShown(name, True, one.started, one.registered, one.connections, one.planes)
            if (one := found.get(name)) is not None
            else NodeShown(name, False)
            for name in self._sockets
        )
        first = next(iter(found.values()))
        return structs.replace(
            first,
            state=self._state,
            admin_urls=self._admin_urls,
            started=self._started,
            draining=all(one.draining for one in found.values()),
            registered=sum(one.registered for one in nodes),
            connections=sum(one.connections for one in nodes),
            planes=sum(one.planes for one in nodes),
            nodes=nodes,
        )


def _with_silent(answer: Answer, silent: tuple[str, ...]) -> Answer:
    """Return an answer that names who did not give theirs."""
    if not silent:
        return answer
    if isinstance(answer, PeersShown | TopShown):
        return structs.replace(answer, silent=silent)
    if isinstance(answer, Done):
        said = f"{answer.said}; {' and '.join(silent)} did not answer: say it again later"
        return structs.replace(answer, said=said)
    return answer


def _said(found: Mapping[str, Answer]) -> str:
    """Return what was done, of each process where that differs."""
    words = {
        name: one.said if isinstance(one, Done) else f"not done: {one.reason}"
        for name, one in found.items()
        if isinstance(one, Done | Failed)
    }
    if len(set(words.values())) == 1:
        return next(iter(words.values()))
    return "; ".join(f"{name}: {said}" for name, said in words.items())


def _top(found: list[TopShown], asked: Top) -> TopShown:
    rows = [row for one in found for row in one.peers]
    if asked.by == "bytes":
        rows.sort(key=lambda row: row.sent + row.received, reverse=True)
    else:
        rows.sort(key=lambda row: int(getattr(row, asked.by)), reverse=True)
    process = structs.replace(
        found[0].process,
        cpu_seconds=sum(one.process.cpu_seconds for one in found),
        resident_bytes=sum(one.process.resident_bytes or 0 for one in found) or None,
        descriptors=sum(one.process.descriptors or 0 for one in found) or None,
    )
    added = ("connections", "registered", "planes", "messages_in", "messages_out", "requests")
    totals = {
        name: sum(getattr(one, name) for one in found)
        for name in (*added, "refusals", "plane_bytes")
    }
    return structs.replace(
        found[0],
        process=process,
        loop_lag=max(one.loop_lag for one in found),
        peers=tuple(rows[: asked.limit]),
        **totals,
    )
