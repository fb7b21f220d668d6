"""The package logs with Python's loggers; the log of a run in the Dagster UI has the same lines, from LOG_LEVEL on."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

from ..settings import Settings

package_logger = logging.getLogger("nango_dagster")


def follow(settings: Settings) -> None:
    """Set the level of the package's loggers to LOG_LEVEL."""
    package_logger.setLevel(settings.log_level)


@contextlib.contextmanager
def into(run_log: logging.Logger) -> Iterator[None]:
    """Copy the package's log lines into the log of a run.

    Nothing is done where an outer block does so already, or Dagster itself (`python_logs.managed_python_loggers`).
    """
    if any(
        type(handler).__name__ in ("_RunLogHandler", "DagsterLogHandler")
        for handler in [*package_logger.handlers, *package_logger.root.handlers]
    ):
        yield
        return
    handler = _RunLogHandler(run_log)
    package_logger.addHandler(handler)
    try:
        yield
    finally:
        package_logger.removeHandler(handler)


class _RunLogHandler(logging.Handler):
    def __init__(self, run_log: Any) -> None:
        super().__init__()
        self._run_log = run_log

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._run_log.log(record.levelno, record.getMessage())
        except Exception:
            self.handleError(record)
