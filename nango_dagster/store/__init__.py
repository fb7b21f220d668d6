"""What the package may ask of the database; the only home of SQLAlchemy."""

from sqlalchemy import Connection

from .database import Database, open_database

__all__ = ["Connection", "Database", "open_database"]
