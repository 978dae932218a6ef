"""Registration and lookup by dynamic DNS."""

from peers.dns.client import ask, system_servers
from peers.dns.key_file import read_key, write_key
from peers.dns.lookup import NameLookup, answer_data, ask_all
from peers.dns.names import Names, Zone

__all__ = [
    "NameLookup",
    "Names",
    "Zone",
    "answer_data",
    "ask",
    "ask_all",
    "read_key",
    "system_servers",
    "write_key",
]
