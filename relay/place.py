"""Where a relay of the command keeps what outlives it, where nobody says: in the place that this
system has for the files of a user's programs, or the one that systemd has made for the service.

A program that embeds a relay says it in its `RelayConfig`; nothing is chosen for it.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from platformdirs import user_data_path

from protocol.errors import IdentityError
from protocol.identity import Identity
from relay import config as configuration
from relay import disk
from relay.config import ENVIRONMENT_PREFIX, KEY, ConfigError, RelayConfig
from relay.key_file import read_key

__all__ = ["configured", "default_state", "make_key", "may_keep_nothing", "own_key"]

_STORED = ("dns", "mailbox")
_OUTLIVING = ("state", "identity", *(f"{table}_store" for table in _STORED))
"""Keys, and keys of tables, by which somebody names what is to outlive a relay."""


def default_state(environment: Mapping[str, str]) -> str:
    """Return the folder: the one that systemd names (STATE_DIRECTORY), or one of this user's."""
    named = environment.get("STATE_DIRECTORY", "")
    if named and sys.platform != "win32":
        return named.partition(":")[0]
    return str(user_data_path("roam-relay", appauthor=False) / "relay")


def configured(
    file: str | None, environment: Mapping[str, str], flags: Mapping[str, Any]
) -> RelayConfig:
    """Return the configuration of a command, with a place for what outlives the relay.

    Raises:
        ConfigError: as `relay.config.load`.
    """
    return configuration.load(file, environment, flags, place=default_state(environment))


def may_keep_nothing(
    file: str | None, environment: Mapping[str, str], flags: Mapping[str, Any]
) -> bool:
    """Whether a relay can do without a place: nobody has named one, nor a file that outlives it,
    the system neither, and nothing that is configured needs it."""
    said = {} if file is None else msgspec.toml.decode(Path(file).read_bytes(), type=dict[str, Any])
    tables = {f"{table}_store" for table in _STORED if "store" in said.get(table, ())}
    named = {name for name, value in flags.items() if value is not None} | set(said) | tables
    if environment.get("STATE_DIRECTORY") or not named.isdisjoint(_OUTLIVING):
        return False
    if any(environment.get(f"{ENVIRONMENT_PREFIX}{name.upper()}") for name in _OUTLIVING):
        return False
    try:
        configured(file, environment, {**flags, "state": ""})
    except ConfigError:
        return False
    return True


def own_key(config: RelayConfig) -> Identity:
    """Return the relay's own key. In the state folder it is made where there is none, if nobody has
    given it another name; without any file it is new each time.

    Raises:
        IdentityError: it cannot be read, or not be made.
        ConfigError: there is no place for it.
    """
    if config.identity is None:
        return Identity.generate()
    file = config.in_state(config.identity)
    if config.state is not None and config.identity == KEY and not os.path.lexists(file):
        _make_folder(config.state)
        make_key(file)
    return read_key(file)


def make_key(file: str) -> None:
    """Make a key where there is none.

    Raises:
        IdentityError: it cannot be made.
    """
    try:
        disk.make(file, Identity.generate().to_pem())
    except FileExistsError:
        pass  # Somebody was faster: theirs is everybody's.
    except OSError as error:
        raise IdentityError(f"cannot make the key {file}: {error.strerror}") from None


def _make_folder(name: str) -> None:
    try:
        Path(name).mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"state: cannot make the folder {name}: {error.strerror}. Name another with --state; "
            "with --state '' nothing is kept, and the relay has a new GUID at each start"
        ) from None
