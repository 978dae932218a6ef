"""Structured logs: a console on a terminal, JSON lines otherwise. One line a life event."""

import logging
import sys

import structlog

__all__ = ["configure", "short"]


def configure(style: str, level: str) -> None:
    """Set logging up for the process: `style` is auto, console or json."""
    if style == "auto":
        style = "console" if sys.stderr.isatty() else "json"
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer()
        if style == "console"
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def short(guid: str) -> str:
    """Return the part of a GUID that a log line shows."""
    return guid[:8]
