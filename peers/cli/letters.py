"""`peer write` and `peer mail`: messages of conversations, which outlive the commands.

What is printed was done before, and what is sent is on the disk; so either may be killed and
started again.
"""

import asyncio
import contextlib
from typing import Protocol

import click

from peers import Conversation, MessageState, Peer
from peers.cli.invocation import Invocation, Work
from peers.cli.terminal import Terminal

__all__ = ["mail", "write"]


class _Settings(Protocol):
    """What the options before the subcommand say."""

    key: str

    def waiting_peer(self) -> Peer: ...

    def invocation(self, work: Work, as_json: bool = False) -> Invocation: ...


_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")
_store = click.option(
    "--store", metavar="FILE", help="Where messages are kept [the key file's name and .letters]."
)


@click.command()
@click.argument("guid")
@click.argument("service")
@click.argument("message", required=False)
@click.option(
    "--expires",
    metavar="SECONDS",
    type=click.FloatRange(0, min_open=True),
    help="What has not left by then is not sent any more.",
)
@click.option("--leave", is_flag=True, help="End when it is stored here, and not when it is there.")
@_store
@_json
@click.pass_obj
def write(
    settings: _Settings,
    guid: str,
    service: str,
    message: str | None,
    expires: float | None,
    leave: bool,
    store: str | None,
    as_json: bool,
) -> Invocation:
    """Write MESSAGE to SERVICE of GUID, or every line of standard input.

    Each is kept until the other side has it, whenever that is there: this ends when all are in the
    other side's store, those of before too; or, where it is away, in its relay's mailbox. If it is
    ended sooner, it goes on with the next 'peer write' to the same peer. The other side reads by
    'peer mail'.
    """

    async def work(terminal: Terminal) -> None:
        place = store or f"{settings.key}.letters"
        async with (
            settings.waiting_peer() as peer,
            peer.conversation(guid, service, store=place) as chat,
        ):
            if message is not None:
                await chat.send(message.encode(), expires=expires)
            else:
                while (line := await terminal.input.line()) is not None:
                    await chat.send(line, expires=expires)
            for left in await chat.outgoing():
                async for now in chat.follow(left.id):
                    if leave or now.state is not MessageState.QUEUED:
                        facts = {"event": now.state.value, "id": now.id, "reason": now.reason}
                        await terminal.tell(f"{now.state.value}: {now.id}", **facts)
                        break

    return settings.invocation(work, as_json)


@click.command()
@click.argument("service")
@click.option("--allow", multiple=True, metavar="GUID", help="Only these may write (repeatable).")
@click.option(
    "--wait",
    metavar="SECONDS",
    type=click.FloatRange(0, min_open=True),
    help="End when nothing has come for so long [never].",
)
@_store
@_json
@click.pass_obj
def mail(
    settings: _Settings,
    service: str,
    allow: tuple[str, ...],
    wait: float | None,
    store: str | None,
    as_json: bool,
) -> Invocation:
    """Print the messages that others write to SERVICE, until Ctrl-C; each once."""

    async def work(terminal: Terminal) -> None:
        place, came = store or f"{settings.key}.letters", asyncio.Event()

        async def show(chat: Conversation) -> None:
            async for message in chat:
                await terminal.message(message.payload, message.sender)
                await message.done(read=True)
                came.set()

        async def follow(peer: Peer, tasks: asyncio.TaskGroup) -> None:
            async for chat in peer.conversations(service, store=place, allow=allow or None):
                tasks.create_task(show(chat))

        async with settings.waiting_peer() as peer:
            await terminal.tell(f"peer: {peer.guid}", event="ready", guid=peer.guid)
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(follow(peer, tasks))
                    if wait is not None:
                        await _quiet(came, wait)
                        raise _Quiet
            except* _Quiet:
                pass

    return settings.invocation(work, as_json)


class _Quiet(Exception):
    """Nothing has come for as long as was said."""


async def _quiet(came: asyncio.Event, seconds: float) -> None:
    """Wait until nothing has come for so long."""
    with contextlib.suppress(TimeoutError):
        while True:
            came.clear()
            async with asyncio.timeout(seconds):
                await came.wait()
