"""What must outlive the process: files that a kill or a full disk leaves whole."""

from relay.store.folder import state_folder
from relay.store.sqlite import Database, Migrations, StoreFailed

__all__ = ["Database", "Migrations", "StoreFailed", "state_folder"]
