"""The messenger's screen: contacts at the left, what was said at the right, below it how and why.

Every text that comes from others is cleaned (clean.py) and shown as plain text.
"""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import segno
from textual import work
from textual.app import App, ComposeResult, ScreenStackError
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.css.query import NoMatches
from textual.screen import Screen
from textual.widget import MountError
from textual.widgets import Footer, Input, Label, ListItem, ListView, Static

from examples.chat.book import Line, Standing
from examples.chat.clean import cleaned
from examples.chat.messenger import Friend, Messenger
from examples.chat.screens import Question, Shown
from peers import Mode, RoamRelayError

__all__ = ["ChatApp"]

_MARKS = {"queued": "·", "stored": "▫", "sent": "✓", "delivered": "✓", "read": "✓✓"}
"""Beside a message of the user."""
_PRESENCE = {"online": "●", "suspect": "◐", "offline": "○"}
_REFRESH = 1.0
"""Seconds after which the status line is drawn anew where nothing has happened."""
_WIDTH = 60
"""Columns below which the contacts are hidden; Ctrl+Up and Ctrl+Down go from one to the other."""

WELCOME = """Nobody is here yet.

 1.  Ctrl+K shows your link: send it to a friend by mail, or let them scan it.
 2.  Ctrl+N adds a friend by the link that they have sent you.
 3.  Write. Who is away gets it when they are back.
"""
NO_RELAY = """There is no relay yet, so nobody can find you.

Start this program with  --relay https://relay.example , or press Ctrl+N and paste a friend's link:
the relay that it names becomes yours. A relay for trying it out:  relay serve
"""
SILENCE = "Nothing was said yet. What you write is kept until it has arrived, whoever is away."
STRANGER = """This one is not among your contacts. Answer to add them, press Ctrl+N and paste
their link to add them by name, or Ctrl+B to block them."""


def _update(shown: Static, text: str) -> None:
    """Draw a text, where it is another one: each drawing costs."""
    if str(shown.content) != text:
        shown.update(Content(text))


class _Entry(ListItem):
    """One of the list."""

    def __init__(self, friend: Friend) -> None:
        self.label = Label("", markup=False)
        super().__init__(self.label)
        self.friend = friend

    def show(self) -> None:
        """Draw it as it is now."""
        friend = self.friend
        is_stranger = friend.contact.standing is Standing.STRANGER
        dot = _PRESENCE.get(friend.presence, "?")
        new = " ✉" if friend.waiting is not None else ""
        _update(self.label, f"{dot} {friend.name}{' ?' if is_stranger else ''}{new}")


class ChatApp(App[None]):
    """The messenger."""

    TITLE = "roam chat"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #friends { width: 26; border-right: solid $primary; }
    .narrow #friends { display: none; }
    #said { padding: 0 1; }
    .line { height: auto; }
    #welcome { padding: 1 2; height: auto; color: $text-muted; }
    #status { height: auto; max-height: 3; padding: 0 1; background: $panel; }
    Question, Shown { align: center middle; }
    .box { width: 80%; max-width: 100; height: auto; max-height: 95%; padding: 1 2;
           border: round $primary; background: $surface; }
    .title { text-style: bold; }
    .hint { color: $text-muted; }
    #text { width: auto; }
    #text.wrapped { width: 100%; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+n", "add", "Add", priority=True),
        Binding("ctrl+k", "link", "My link", priority=True),
        Binding("ctrl+f", "file", "File", priority=True),
        Binding("ctrl+o", "mode", "Mode", priority=True),
        Binding("ctrl+e", "explain", "Why", priority=True),
        Binding("ctrl+b", "block", "Block", priority=True),
        Binding("ctrl+down", "step(1)", "Next", priority=True),
        Binding("ctrl+up", "step(-1)", "Before", priority=True, show=False),
        Binding("ctrl+q", "quit", "Quit", priority=True),
    ]

    def __init__(self, messenger: Messenger) -> None:
        super().__init__()
        self.messenger = messenger
        self.friend: Friend | None = None
        """Whose conversation is on the screen."""
        self._block_asked: Friend | None = None
        self._lines: dict[int, Static] = {}

    def compose(self) -> ComposeResult:
        with Horizontal():
            yield ListView(id="friends")
            with Vertical():
                yield Static("", markup=False, id="welcome")
                yield VerticalScroll(id="said", can_focus=True)
                yield Static("", markup=False, id="status")
                yield Input(id="input", placeholder="Write a message, Enter sends it")
        yield Footer()

    def on_mount(self) -> None:
        self.query_one("#input").focus()
        self.set_interval(_REFRESH, self._show_status)
        self._follow()

    def on_resize(self) -> None:
        self.set_class(self.size.width < _WIDTH, "narrow")

    @property
    def _front(self) -> Screen[object]:
        """The conversations, whatever lies over them."""
        return self.screen_stack[0]

    @contextlib.contextmanager
    def _drawing(self) -> Iterator[None]:
        """Whatever comes while the program ends finds its screen half taken apart."""
        try:
            yield
        except (NoMatches, ScreenStackError, MountError):
            if self.is_running:
                raise

    # -- what happens ---------------------------------------------------------------------------

    @work
    async def _follow(self) -> None:
        while self.is_running:
            await self._show()
            await self.messenger.changed()

    async def _show(self) -> None:
        """Draw all that may have changed."""
        listed = self.messenger.listed
        if self.friend not in listed:
            self._look_at(listed[0] if listed else None)
        with self._drawing():
            await self._show_friends(listed)
            await self._show_lines()
            self._show_status()

    async def _show_friends(self, listed: list[Friend]) -> None:
        view = self._front.query_one("#friends", ListView)
        entries = list(view.query(_Entry))
        if [entry.friend for entry in entries] != listed:
            await view.clear()
            entries = [_Entry(friend) for friend in listed]
            await view.extend(entries)
        for entry in entries:
            entry.show()
        if self.friend is not None:
            view.index = listed.index(self.friend)

    async def _show_lines(self) -> None:
        said, friend = self._front.query_one("#said", VerticalScroll), self.friend
        lines = [] if friend is None else self.messenger.book.lines(friend.guid)
        if not self._lines.keys() <= {line.number for line in lines}:
            await said.remove_children()
            self._lines.clear()
        was_at_end = said.is_vertical_scroll_end
        new: list[Static] = []
        for line in lines:
            shown = self._shown(line)
            if line.number not in self._lines:
                self._lines[line.number] = Static(shown, markup=False, classes="line")
                new.append(self._lines[line.number])
            elif self._lines[line.number].content != shown:
                self._lines[line.number].update(shown)
        if new:
            await said.mount_all(new)
            if was_at_end:
                said.scroll_end(animate=False)
        self._show_welcome(has_lines=bool(lines))

    def _show_welcome(self, *, has_lines: bool) -> None:
        if self.friend is None:
            text = WELCOME if self.messenger.relay else NO_RELAY
        elif self.friend.contact.standing is Standing.STRANGER:
            text = STRANGER
        else:
            text = "" if has_lines else SILENCE
        welcome = self._front.query_one("#welcome", Static)
        _update(welcome, text)
        welcome.display = bool(text)

    def _shown(self, line: Line) -> Content:
        friend = self.friend
        assert friend is not None
        at = time.strftime("%H:%M", time.localtime(min(max(line.at, 0.0), 1e11)))
        who = "you" if line.is_own else friend.name
        text = cleaned(line.text, lines=True)
        progress = friend.progress.get(line.number)
        if progress is not None:
            done = round(progress * 10)
            state = f"{'█' * done}{'░' * (10 - done)} {progress:4.0%}"
        else:
            state = cleaned(line.state, limit=300)
            if state:
                state = f"{_MARKS[state]} {state}" if state in _MARKS else state
        return Content.assemble(
            (f"{at} ", "dim"),
            (who, "bold"),
            f"  {text}",
            (f"  {state}" if state else "", "dim"),
        )

    # -- the status line ------------------------------------------------------------------------

    def _show_status(self) -> None:
        with self._drawing():
            _update(self._front.query_one("#status", Static), "\n".join(self._status()))

    def _status(self) -> list[str]:
        messenger, friend = self.messenger, self.friend
        status = messenger.status
        if messenger.relay is None:
            relay = "no relay: press Ctrl+N and paste a link"
        elif status is None:
            relay = "relay: connecting"
        elif status.is_registered:
            relay = f"relay: {status.state.value}"
        else:
            cause = f", {status.cause}" if status.cause else ""
            step = "mend it, see docs/troubleshooting.md" if status.lasting else "it is tried again"
            relay = f"relay: {status.state.value}{cause}; {step}"
        if friend is None:
            return [cleaned(relay, limit=300)]
        about = f"{friend.name}: {friend.presence}, mode {friend.contact.mode.value}"
        session = messenger.session(friend.guid)
        if friend.trouble:
            path = friend.trouble
        elif session is None:
            path = "no path now; what you write waits here"
        else:
            why, figures = session.explain(), session.figures()
            trip = f", {why.round_trip * 1e3:.1f} ms" if why.round_trip is not None else ""
            moves = max(figures.paths - 1, 0)
            path = (
                f"path: {why.path}{trip}, because {why.rule or 'there is none yet'}"
                f" · {moves} move{'' if moves == 1 else 's'}"
            )
        return [cleaned(f"{about} · {relay}", limit=300), cleaned(path, limit=300)]

    # -- what the user does ---------------------------------------------------------------------

    def _look_at(self, friend: Friend | None) -> None:
        if self.friend is not None:
            self.friend.on_screen.clear()
        self.friend = friend
        self._block_asked = None
        if friend is not None:
            friend.on_screen.set()

    @work
    async def _turn_to(self, friend: Friend) -> None:
        self._look_at(friend)
        self._lines.clear()
        with self._drawing():
            await self._front.query_one("#said").remove_children()
            await self._show()
            self._front.query_one("#input").focus()

    def action_step(self, by: int) -> None:
        listed = self.messenger.listed
        if self.friend in listed:
            self._turn_to(listed[(listed.index(self.friend) + by) % len(listed)])

    def on_list_view_selected(self, event: ListView.Selected) -> None:
        if isinstance(event.item, _Entry):
            self._turn_to(event.item.friend)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        if event.input.id == "input" and (text := event.value.strip()):
            if self.friend is None:
                self._say("There is nobody to write to: add somebody with Ctrl+N", is_error=True)
                return
            event.input.clear()
            self._write(self.friend, text)

    @work
    async def _write(self, friend: Friend, text: str) -> None:
        try:
            await self.messenger.write(friend, text)
        except (RoamRelayError, ValueError) as error:
            self._say(f"Not sent: {error}. It is in the input again", is_error=True)
            with self._drawing():
                self._front.query_one("#input", Input).value = text

    @work
    async def action_add(self) -> None:
        hint = "roam:GUID?relay=…  as 'Ctrl+K' shows it there, or 'peer link'. Escape: back"
        text = await self.push_screen_wait(Question("A friend's link", hint))
        if text is None:
            return
        try:
            friend = self.messenger.add(text)
            other = self.messenger.relay_differs(text)
        except (RoamRelayError, ValueError) as error:
            step = "Copy the whole link, from 'roam:' on, and press Ctrl+N again"
            self._say(f"{error}. {step}", is_error=True)
            return
        if other is not None:
            self._say(
                f"{friend.name} is at another relay, {other}, and you are at "
                f"{self.messenger.relay}: start one of you with --relay and the other's",
                is_error=True,
            )
        self._turn_to(friend)

    @work
    async def action_link(self) -> None:
        link = self.messenger.link.text
        rows = [list(row) for row in segno.make(link, error="l", micro=False).matrix_iter(border=2)]
        rows += [[0] * len(rows[0])] * (len(rows) % 2)
        halves = {(0, 0): " ", (0, 1): "▄", (1, 0): "▀", (1, 1): "█"}
        code = "\n".join(
            "".join(halves[bool(upper), bool(lower)] for upper, lower in zip(*pair, strict=True))
            for pair in zip(rows[::2], rows[1::2], strict=True)
        )
        text = Content.assemble(f"{link}\n\n", (code, "black on white"))
        await self.push_screen_wait(Shown("Your link: send it, or let it be scanned", text))

    @work
    async def action_file(self) -> None:
        friend = self.friend
        if friend is None:
            self._say("Add somebody first, with Ctrl+N", is_error=True)
            return
        hint = "The path of a file. It is sent at once, so they have to be online. Escape: back"
        text = await self.push_screen_wait(Question(f"A file for {friend.name}", hint))
        if text is None:
            return
        try:
            self.messenger.give(friend, Path(text).expanduser())
        except (OSError, ValueError, RuntimeError) as error:
            self._say(f"{error}. Press Ctrl+F and give another path", is_error=True)

    def action_mode(self) -> None:
        if self.friend is not None:
            modes = list(Mode)
            now = modes.index(self.friend.contact.mode)
            mode = modes[(now + 1) % len(modes)]
            self.messenger.set_mode(self.friend, mode)
            self._say(f"{self.friend.name}: sessions are opened in mode {mode.value} from here on")

    @work
    async def action_explain(self) -> None:
        session = self.messenger.session(self.friend.guid) if self.friend is not None else None
        if session is None:
            text = "There is no session now: it begins when both are online, or something is sent."
        else:
            carried = session.figures()
            text = (
                f"{session.explain()}\n\n"
                f"carried   {carried.sent_bytes:,} bytes there, {carried.acknowledged} of "
                f"{carried.sent} parts acknowledged; {carried.taken_bytes:,} bytes here\n"
                f"for       {carried.seconds:,.0f} s, over {carried.paths} paths"
            )
        text = cleaned(text, limit=20_000, lines=True)
        shown = Shown("Why the path is what it is", Content(text), wraps=True)
        await self.push_screen_wait(shown)

    def action_block(self) -> None:
        friend = self.friend
        if friend is None:
            return
        if self._block_asked is not friend:
            self._block_asked = friend
            self._say(f"Block {friend.name}? Press Ctrl+B again; adding the link takes it back")
            return
        self.messenger.block(friend)

    def _say(self, text: str, *, is_error: bool = False) -> None:
        self.notify(
            cleaned(text, limit=400),
            severity="error" if is_error else "information",
            markup=False,
            timeout=8,
        )
