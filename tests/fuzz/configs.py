"""Configuration: files of TOML and variables of the environment."""

import contextlib
import os
import tempfile
from collections.abc import Iterator

from peers.config import ConfigError as PeerConfigError
from peers.config import PeerConfig, PolicyError
from relay.config import ENVIRONMENT_PREFIX, ConfigError, load

__all__ = ["environments", "peer_files", "relay_files"]


@contextlib.contextmanager
def _file(data: bytes) -> Iterator[str]:
    descriptor, name = tempfile.mkstemp(suffix=".toml")
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
        yield name
    finally:
        os.unlink(name)


def relay_files(data: bytes) -> None:
    """A file for the relay."""
    with _file(data) as name, contextlib.suppress(ConfigError):
        load(name, {}, {})


def peer_files(data: bytes) -> None:
    """A file for a peer."""
    with _file(data) as name, contextlib.suppress(PeerConfigError, PolicyError):
        PeerConfig.load(name)


def environments(data: bytes) -> None:
    """Lines of `NAME=value`, as variables of the relay."""
    text = data.decode("utf-8", "surrogateescape")
    named = (line.partition("=") for line in text.split("\n"))
    variables = {ENVIRONMENT_PREFIX + name: value for name, _, value in named}
    with contextlib.suppress(ConfigError):
        load(None, variables, {})
