"""`python -m relay` is the `relay` command, and so is the script `relay`."""

import contextlib
import gc
import os
import signal
import sys
from collections.abc import Iterator

__all__ = ["main"]

_AUTHORITIES = "SSL_CERT_FILE"
"""The variable by which OpenSSL finds the system's certificate authorities."""


def main() -> None:
    """Run the command. What is imported stays: the collector would walk over all of it a hundred
    times meanwhile, which is a fifth of the start."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Until the command can end itself nothing is open: it ends as any program does.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    gc.disable()
    try:
        with _spared():
            from relay.cli import main as command
    finally:
        gc.enable()
    command()


@contextlib.contextmanager
def _spared() -> Iterator[None]:
    """Spare this process what libraries do while they are imported, and it never needs, which is a
    quarter of the start: aiohttp reads all authorities that the system trusts, for a client of its
    own; structlog imports rich, where that is there, for tracebacks in colours."""
    authorities = os.environ.get(_AUTHORITIES)
    has_rich = "rich" in sys.modules
    os.environ[_AUTHORITIES] = os.devnull
    if not has_rich:
        sys.modules["rich"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if not has_rich:
            del sys.modules["rich"]
        if authorities is None:
            del os.environ[_AUTHORITIES]
        else:
            os.environ[_AUTHORITIES] = authorities


if __name__ == "__main__":
    main()
