"""The relay's log: structlog's words through the standard library's logger `relay`.

A relay that is embedded is silent until its program asks: `logging.getLogger("relay")` takes the
handlers, and a record's text is `event key=value …`. `relay serve` asks with `configure`: a console
on a terminal, JSON lines otherwise. One line a life event. The relay never waits for whoever reads
its log.
"""

import contextlib
import logging
import os
import select
import sys
import threading
from collections import deque
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import msgspec
import structlog

from protocol.text import shown

__all__ = ["NAME", "configure", "guarded", "log", "short"]

NAME = "relay"

_FIELDS = "relay_fields"
"""The attribute of a record that holds its words one by one."""

_CALLER = 4
"""Calls between whoever writes a line and the logger: structlog's."""

_LINES = 10_000
"""Lines that may wait to be written. What is above is dropped, and the log says how many."""
_AT_ONCE = 100
"""Lines that are written in one go: so many wait for one reader at most, besides."""
_GATHERING = 0.05
"""Seconds for which lines are gathered, unless there are so many before: to wake a thread for each
costs more than to make the line."""
_ENDING = 0.5
"""Seconds for what waits, at the end."""

logging.getLogger(NAME).addHandler(logging.NullHandler())

_as_text = structlog.processors.KeyValueRenderer(key_order=["event"])


class _Text:
    """Words as a text, made when somebody reads it: `relay serve` writes the words one by one."""

    __slots__ = ("_words",)

    def __init__(self, words: dict[str, Any]) -> None:
        self._words = words

    def __str__(self) -> str:
        return str(_as_text(None, "", dict(self._words)))


def _to_record(
    logger: Any, method: str, words: structlog.typing.EventDict
) -> tuple[tuple[_Text], dict[str, Any]]:
    """Turn words into the call of a standard logger; a traceback stays the record's."""
    trace = words.pop("exc_info", None)
    kept = dict(words)
    extra = {_FIELDS: kept}
    return (_Text(kept),), {"exc_info": trace, "extra": extra, "stacklevel": _CALLER}


log: structlog.stdlib.BoundLogger = structlog.wrap_logger(
    logging.getLogger(NAME),
    wrapper_class=structlog.stdlib.BoundLogger,
    processors=[structlog.stdlib.filter_by_level, _to_record],
).bind()  # Once: else for each line, which took a tenth of it.


class _Lines(logging.Formatter):
    """One line a record, whoever wrote it."""

    def __init__(self, renderers: list[structlog.typing.Processor], node: str) -> None:
        super().__init__()
        self._node = {"node": node} if node else {}
        self._renderers = renderers
        self._stamp = structlog.processors.TimeStamper(fmt="iso", utc=True)

    def format(self, record: logging.LogRecord) -> str:
        words: Any = dict(getattr(record, _FIELDS, None) or {"event": record.getMessage()})
        words = {**self._node, **words}
        words["level"] = record.levelname.lower()
        words = dict(self._stamp(None, record.levelname, words))
        if record.exc_info:
            words["exception"] = self.formatException(record.exc_info)
        for renderer in self._renderers:
            words = renderer(None, record.levelname, words)
        return str(words)


def _to_show(
    logger: Any, method: str, words: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Text of others does not act where people read it; JSON escapes it by itself."""
    return {
        name: shown(value, keep="\n" if name == "exception" else "")
        if isinstance(value, str)
        else value
        for name, value in words.items()
    }


_WHOLE = 4096
"""Bytes that a pipe takes in one piece, whoever writes into it besides (PIPE_BUF)."""
_PLAIN = frozenset((str, int, float, bool, type(None)))
_encode = msgspec.json.Encoder().encode
_as_any_json = structlog.processors.JSONRenderer(separators=(",", ":"))


def _as_json(logger: Any, method: str, words: structlog.typing.EventDict) -> str:
    """Return words as JSON in ASCII. Plain ones, as nearly all are, go by msgspec, which saves 4 of
    a line's 18 µs. json has what must be escaped, and what is no plain word."""
    if _PLAIN.issuperset(map(type, words.values())):
        try:
            line = _encode(words)
        except (ValueError, OverflowError):
            pass  # Half a character, or a number beyond 64 bits.
        else:
            if line.isascii():
                return line.decode()
    return str(_as_any_json(logger, method, words))


class _Writer(logging.Handler):
    """Writes lines to a descriptor in a thread of its own: whoever logs never waits."""

    def __init__(self, descriptor: int, *, is_shared: bool = False) -> None:
        """With `is_shared` other processes write there too."""
        super().__init__()
        self._descriptor = descriptor
        self._most = _WHOLE if is_shared else 1 << 30
        """Bytes of lines that are written in one go."""
        self._waiting: deque[str] = deque()
        self._dropped = 0
        self._stopped = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception:
            line = self.format(_unwritten(record))
        with self._changed:
            if len(self._waiting) >= _LINES:
                self._dropped += 1
                return
            self._waiting.append(line)
            if len(self._waiting) in (1, _AT_ONCE):
                self._changed.notify()

    def close(self) -> None:
        """Stop, when what waits is written or has had its time."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join(_ENDING)
        super().close()

    def _write(self) -> None:
        while lines := self._next():
            for piece in self._pieces(lines):
                data = memoryview(piece)
                # A log that cannot be written (no reader, or a full disk) ends no relay.
                with contextlib.suppress(OSError):
                    while data:
                        try:
                            data = data[os.write(self._descriptor, data) :]
                        except BlockingIOError:
                            select.select([], [self._descriptor], [])

    def _pieces(self, lines: list[str]) -> Iterator[bytes]:
        """Put lines together, whole ones."""
        piece = b""
        for line in lines:
            data = f"{line}\n".encode(errors="backslashreplace")
            if piece and len(piece) + len(data) > self._most:
                yield piece
                piece = b""
            piece += data
        yield piece

    def _next(self) -> list[str]:
        """Wait for lines, and return them: none at the end."""
        with self._changed:
            # No timeout: when something happens is not the log's to decide.
            self._changed.wait_for(lambda: self._waiting or self._stopped)
            self._changed.wait_for(
                lambda: len(self._waiting) >= _AT_ONCE or self._stopped, _GATHERING
            )
            if self._dropped and len(self._waiting) < _LINES:
                dropped, self._dropped = self._dropped, 0
                text = f"{dropped} lines are left out before here: nobody read the log"
                return [self.format(logging.makeLogRecord({"msg": text, "levelname": "WARNING"}))]
            return [self._waiting.popleft() for _ in range(min(_AT_ONCE, len(self._waiting)))]


def _unwritten(record: logging.LogRecord) -> logging.LogRecord:
    """Return what is written in place of a line that cannot be made; call it where that was
    caught."""
    words = {"event": "a line of the log cannot be made", "of": ascii(record.msg)[:200]}
    if isinstance(record.msg, _Text):
        words["of"] = str(getattr(record, _FIELDS)["event"])
    return logging.makeLogRecord({"levelname": "ERROR", "exc_info": sys.exc_info(), _FIELDS: words})


def _hear_all() -> None:
    """Have what Python itself would write to standard error written as lines of the log: warnings,
    and what nobody has caught."""
    logging.captureWarnings(True)

    def ended(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, trace)
        else:
            log.error("the program ends: nobody expected this", exc_info=(kind, error, trace))

    def thread_ended(how: threading.ExceptHookArgs) -> None:
        if how.exc_value is not None and not issubclass(how.exc_type, SystemExit):
            log.error("a thread failed", exc_info=how.exc_value)

    def passed_over(how: "sys.UnraisableHookArgs") -> None:
        if how.exc_value is not None:
            where = getattr(how.object, "__qualname__", type(how.object).__qualname__)
            log.error("an error was passed over", where=where, exc_info=how.exc_value)

    sys.excepthook = ended
    threading.excepthook = thread_ended
    sys.unraisablehook = passed_over


def configure(style: str, level: str, node: str = "") -> None:
    """Set logging up for the process: `style` is auto, console or json. Of several processes with
    one log, each has its name as `node` in every line.

    What other libraries have to say comes in the same form, from a warning upwards; and so does
    what Python says where nobody has caught an error, its traceback in a field of the line.
    """
    _hear_all()
    is_terminal = sys.stderr is not None and sys.stderr.isatty()
    if style == "auto":
        style = "console" if is_terminal else "json"
    is_coloured = is_terminal and not os.environ.get("NO_COLOR")
    renderers: list[structlog.typing.Processor] = (
        [_to_show, structlog.dev.ConsoleRenderer(colors=is_coloured)]
        if style == "console"
        else [_as_json]
    )
    handler = (
        logging.NullHandler()
        if sys.stderr is None
        else _Writer(sys.stderr.fileno(), is_shared=bool(node))
    )
    handler.setFormatter(_Lines(renderers, node))
    # The lines do not say where in the code they come from, nor in which thread: looking that up
    # costs as much as the rest of a line (the logging HOWTO, "Optimization").
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    chosen = logging.getLevelNamesMapping()[level.upper()]
    logging.basicConfig(handlers=[handler], level=max(logging.WARNING, chosen), force=True)
    logging.getLogger(NAME).setLevel(chosen)


@contextlib.contextmanager
def guarded(what: str) -> Iterator[None]:
    """One step that must not keep others from theirs: what nobody expected is logged, once, with
    its traceback, and ends the step alone."""
    try:
        yield
    except Exception as error:
        log.error("a step failed", step=what, exc_info=error)


def short(guid: str) -> str:
    """Return the part of a GUID that a log line shows."""
    return guid[:8]
