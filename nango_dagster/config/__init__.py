"""A sync: the documented fields, defaults and checks, from a file or a POST body."""

from nango_dagster.config.sync import Sync

__all__ = ["Sync"]
