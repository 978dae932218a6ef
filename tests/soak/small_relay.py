"""The relay of a soak: what it remembers up to a number or for minutes, it remembers less of.

So all of that is full after the first laps, and what still rises has no bound. The numbers of a
real relay are in docs/security.md, with what each takes when it is full.
"""

from functools import partial
from types import ModuleType

from relay import cli
from relay.plane import tickets
from relay.presence import records, registry

SMALL: tuple[tuple[ModuleType, str, object], ...] = (
    (tickets, "_RESUME_LIFETIME", 20.0),
    (tickets, "_MAX_REMEMBERED", 512),
    (registry, "VerifiedEntries", partial(records.VerifiedEntries, 512)),
)


def main() -> None:
    """Run the `relay` command."""
    for module, name, value in SMALL:
        assert hasattr(module, name), name
        setattr(module, name, value)
    cli.main()


if __name__ == "__main__":
    main()
