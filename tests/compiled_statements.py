"""SQL statements, compiled once in a test process.

An engine of SQLAlchemy compiles each of its statements once. Nearly each test opens an engine of its own, and Dagster
one for each question to its storage on SQLite, so that a sixth of the time of the tests went into compiling.
"""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.util import LRUCache

_init = Engine.__init__
_known: dict[type, _Statements] = {}


class _Statements(LRUCache[Any, Any]):
    """The compiled statements of the engines of one dialect; a key begins with the dialect of one engine."""

    def get(self, key: Any, default: Any = None) -> Any:
        return super().get(key[1:], default)

    def __setitem__(self, key: Any, statement: Any) -> None:
        super().__setitem__(key[1:], statement)


def keep() -> None:
    """Let the engines of each dialect share their compiled statements for the life of this process."""
    pytest.MonkeyPatch().setattr(Engine, "__init__", _sharing)


def _sharing(engine: Engine, pool: Any, dialect: Any, *arguments: Any, **options: Any) -> None:
    _init(engine, pool, dialect, *arguments, **options)
    if engine._compiled_cache is not None:
        engine._compiled_cache = _known.setdefault(type(dialect), _Statements(2000))
