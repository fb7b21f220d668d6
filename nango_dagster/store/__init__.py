"""The store: all access to the database."""

from sqlalchemy import Connection

from .database import Database
from .opening import open_database
from .upgrade import is_current

__all__ = ["Connection", "Database", "is_current", "open_database"]
