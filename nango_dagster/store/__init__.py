"""What the package may ask of the database; the only home of SQLAlchemy."""

from sqlalchemy import Connection

from .database import Database
from .opening import open_database
from .upgrade import is_current

__all__ = ["Connection", "Database", "is_current", "open_database"]
