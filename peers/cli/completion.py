"""`peer completion`: what a shell reads so that it completes this command."""

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

from peers.cli.invocation import Invocation
from peers.cli.terminal import Terminal

__all__ = ["completion"]

_SHELLS: dict[str, type[ShellComplete]] = {
    "bash": BashComplete,
    "zsh": ZshComplete,
    "fish": FishComplete,
}


@click.command()
@click.argument("shell", type=click.Choice(list(_SHELLS)))
@click.pass_context
def completion(context: click.Context, shell: str) -> Invocation:
    """Print what SHELL reads to complete this command's words.

    \b
    Examples:
      eval "$(peer completion bash)"          # in ~/.bashrc
      eval "$(peer completion zsh)"           # in ~/.zshrc
      peer completion fish > ~/.config/fish/completions/peer.fish
    """
    source = _SHELLS[shell](context.find_root().command, {}, "peer", "_PEER_COMPLETE").source()

    async def work(terminal: Terminal) -> None:
        await terminal.answer(source)

    return Invocation(work, as_json=False, verbose=False)
