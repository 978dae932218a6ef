"""What shells read to complete the `peer` command."""

from tests.peers.cli import commands


async def test_shells_are_told_how_to_complete() -> None:
    for shell, says in (("zsh", "#compdef peer"), ("fish", "complete --no-files --command peer")):
        code, said, _ = await commands.run_peer("completion", shell)
        assert code == 0
        assert says in said
    assert (await commands.run_peer("completion", "csh"))[0] == 2
