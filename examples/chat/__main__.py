"""The messenger as a command: `python -m examples.chat --help`."""

from pathlib import Path

import click
import platformdirs

from examples.chat.messenger import Messenger, Place
from peers import RoamRelayError

__all__ = ["main"]

_APP = "roam-chat"


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 96})
@click.option("--relay", metavar="URL", help="Your relay; it is remembered.")
@click.option("--name", help="What you want to be called in your link; it is remembered.")
@click.option(
    "--state",
    metavar="FOLDER",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where your key and your messages are. Default: this user's folder for such things.",
)
@click.option(
    "--downloads",
    metavar="FOLDER",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where files of others go. Default: this user's downloads.",
)
@click.option("--link", "only_link", is_flag=True, help="Print your link, and end.")
def main(
    relay: str | None, name: str | None, state: Path | None, downloads: Path | None, only_link: bool
) -> None:
    """Talk with friends, from this terminal, wherever either of you moves.

    \b
    The first time:
      python -m examples.chat --relay https://relay.example --name Alice
    Afterwards:
      python -m examples.chat
    Two of you on one machine, to try it out:
      relay serve
      python -m examples.chat --relay http://127.0.0.1:8440 --name Alice --state alice
      python -m examples.chat --relay http://127.0.0.1:8440 --name Bob --state bob

    \b
    Keys:
      Ctrl+N  add a friend by link           Ctrl+K  your link, and its QR code
      Enter   send what you have written     Ctrl+F  send a file
      Ctrl+Up, Ctrl+Down  another friend     Ctrl+O  the friend's next mode
      Ctrl+E  why the path is what it is     Ctrl+B  block
      Tab     the list, the messages, the input     Ctrl+Q  quit

    \b
    Beside what you have sent:
      queued     safe here, until they are back
      stored     in their relay's mailbox
      delivered  safe with them
      read       they have looked at it

    Nothing is lost when either of you, or the relay, ends or moves. Who reads your folder reads
    your messages: nothing is encrypted there.
    """
    folder = state or platformdirs.user_data_path(_APP, appauthor=False)
    place = Place(folder, downloads or platformdirs.user_downloads_path())
    try:
        messenger = Messenger(place, relay, name)
        link = messenger.link
    except (RoamRelayError, ValueError, OSError) as error:
        raise click.ClickException(f"{error}. See --help, or give another --state") from None
    if only_link:
        click.echo(link.text)
        messenger.book.close()
        return
    from examples.chat.app import ChatApp  # Loads Textual, which --link has no use for.

    ChatApp(messenger).run()


if __name__ == "__main__":
    main(prog_name="python -m examples.chat")
