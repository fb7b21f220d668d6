"""What the package may ask of the database; the only home of SQLAlchemy."""

from .database import Database, open_database

__all__ = ["Database", "open_database"]
