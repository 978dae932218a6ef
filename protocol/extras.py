"""What an installation may lack: libraries that come with extras of this package.

Who needs one imports it where it is needed, inside `needed`: so the rest works without.
"""

from protocol.errors import MissingExtra

__all__ = ["LIBRARIES", "needed"]

LIBRARIES = {
    "cluster": "nats",
    "dns": "dns",
    "qr": "segno",
    "sodium": "nacl",
    "tables": "rich",
    "uvloop": "uvloop",
}
"""The module that each extra brings."""


class needed:
    """Imports inside the block need an extra: `with needed("dns", "dynamic DNS"): ...`.

    Raises:
        MissingExtra: its library is not installed.
    """

    def __init__(self, extra: str, what: str) -> None:
        self._extra = extra
        self._what = what

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ModuleNotFoundError):
            missing = (error.name or "").partition(".")[0]
            if missing == LIBRARIES[self._extra]:
                raise MissingExtra(self._what, self._extra) from None
