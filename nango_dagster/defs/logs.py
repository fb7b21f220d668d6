"""What we say goes through Python's loggers; a run's log in the Dagster UI shows it too, from LOG_LEVEL on."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

from ..settings import Settings

ours = logging.getLogger("nango_dagster")


def follow(settings: Settings) -> None:
    """Let our loggers say what LOG_LEVEL asks for."""
    ours.setLevel(settings.log_level)


@contextlib.contextmanager
def into(run_log: logging.Logger) -> Iterator[None]:
    """Copy what our loggers say to a run's log, unless that is done already.

    By an outer block, or by Dagster itself, where `python_logs.managed_python_loggers` of its dagster.yaml asks it to.
    """
    if any(
        type(handler).__name__ in ("_Copy", "DagsterLogHandler") for handler in [*ours.handlers, *ours.root.handlers]
    ):
        yield
        return
    handler = _Copy(run_log)
    ours.addHandler(handler)
    try:
        yield
    finally:
        ours.removeHandler(handler)


class _Copy(logging.Handler):
    def __init__(self, run_log: Any) -> None:
        super().__init__()
        self._run_log = run_log

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._run_log.log(record.levelno, record.getMessage())
        except Exception:
            self.handleError(record)
