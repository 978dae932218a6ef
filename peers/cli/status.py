"""`peer status`: how the peer of another command is, which runs with `--control`."""

import click
import msgspec

from peers.cli.control import ask
from peers.cli.invocation import Invocation
from peers.cli.settings import Settings
from peers.cli.terminal import Terminal

__all__ = ["status"]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")
@click.pass_obj
def status(settings: Settings, as_json: bool) -> Invocation:
    """Show how the peer of a command that runs with --control PATH is: its relay, its addresses
    and services, its sessions and their paths.

    \b
    Example:
      peer --control /run/user/1000/chat.socket listen chat
      peer --control /run/user/1000/chat.socket status
    """
    path = settings.control
    if path is None:
        raise click.UsageError("whose? give --control PATH before 'status', as that command has it")

    async def work(terminal: Terminal) -> None:
        found = await ask(path)
        await terminal.answer("\n".join(found.lines()), **msgspec.to_builtins(found))

    return Invocation(work, as_json, settings.verbose)
