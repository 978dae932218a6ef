"""What must outlive the process: files that a kill or a full disk leaves whole."""

from relay.store.folder import FolderTaken, state_folder
from relay.store.sqlite import Database, Migrations, StoreConflict, StoreFailed, StoreUnsure

__all__ = [
    "Database",
    "FolderTaken",
    "Migrations",
    "StoreConflict",
    "StoreFailed",
    "StoreUnsure",
    "state_folder",
]
