"""Nango's syncs on Dagster: external APIs into SQL tables, one asset and one schedule per sync."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .client import Nango

__all__ = ["Nango"]


def __getattr__(name: str) -> Any:
    """`Nango`, the client of the HTTP API, imported when it is asked for: every run imports this package."""
    if name in __all__:
        from . import client

        return getattr(client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
