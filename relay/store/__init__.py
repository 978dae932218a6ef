"""What must outlive the process: files that a kill or a full disk leaves whole."""

from relay.store.folder import BOOK, state_folder
from relay.store.sqlite import Database, Migrations, StoreFailed

__all__ = ["BOOK", "Database", "Migrations", "StoreFailed", "state_folder"]
