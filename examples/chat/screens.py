"""What lies over the conversation for a moment: a question, the user's own link, an explanation.

Whatever is shown here is handed over as plain text: nothing in it is markup.
"""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static

__all__ = ["Question", "Shown"]


# What `dismiss` returns must not be awaited by the screen that it ends: Textual does that.


class Question(ModalScreen[str | None]):
    """Asks for one line; returns it, or None where the user has thought better of it."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Back")]

    def __init__(self, title: str, hint: str) -> None:
        super().__init__()
        self._title = title
        self._hint = hint

    def compose(self) -> ComposeResult:
        with Vertical(classes="box"):
            yield Static(self._title, markup=False, classes="title")
            yield Input(id="answer")
            yield Static(self._hint, markup=False, classes="hint")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        _ = self.dismiss(event.value.strip() or None)

    def action_leave(self) -> None:
        _ = self.dismiss(None)


class Shown(ModalScreen[None]):
    """Shows a text until a key is pressed."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,enter", "leave", "Back")]

    def __init__(self, title: str, text: Content, *, wraps: bool = False) -> None:
        super().__init__()
        self._title = title
        self._text = text
        self._wraps = wraps

    def compose(self) -> ComposeResult:
        with VerticalScroll(classes="box"):
            yield Static(self._title, markup=False, classes="title")
            kind = "wrapped" if self._wraps else None
            yield Static(self._text, markup=False, id="text", classes=kind)
            yield Static("Escape: back", markup=False, classes="hint")

    def action_leave(self) -> None:
        _ = self.dismiss(None)
