"""Nango's syncs on Dagster: external APIs into SQL tables, one asset and one schedule per sync."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .client import Nango
    from .scripts import ActionError, NangoSync, sync

__all__ = ["ActionError", "Nango", "NangoSync", "sync"]


def __getattr__(name: str) -> Any:
    """`Nango`, the client of the HTTP API, and `sync`, the decorator of scripts, imported when they are asked for.

    Every run imports this package.
    """
    if name == "Nango":
        from . import client

        return client.Nango
    if name in __all__:
        from . import scripts

        return getattr(scripts, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
