"""Choices out of a fuzzer's bytes: whoever changes a byte changes one of them."""

__all__ = ["Draw"]


class Draw:
    """Reads choices from the beginning of the bytes; when they are used up, all are 0."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing left to choose by."""
        return self._at >= len(self._data)

    def number(self, below: int = 256) -> int:
        """Return a number below this one, by one byte, or by two where it has to be."""
        if below > 256:
            return (self.number() << 8 | self.number()) % below
        if self.is_empty:
            return 0
        self._at += 1
        return self._data[self._at - 1] % below

    def rest(self) -> bytes:
        """Return all that is left."""
        rest, self._at = self._data[self._at :], len(self._data)
        return rest

    def pieces(self, data: bytes) -> list[bytes]:
        """Cut bytes into pieces of one chosen size; 0 leaves them whole."""
        size = self.number() or len(data) or 1
        return [data[start : start + size] for start in range(0, len(data), size)]
