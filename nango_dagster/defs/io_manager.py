"""The IO manager: it pulls the pages of a sync and writes them, and reads mapped tables for assets downstream."""

from __future__ import annotations

import collections.abc
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, get_origin

from dagster import Failure, InputContext, IOManager, OutputContext

from ..errors import ConfigError
from ..runs import Outcome, Progress, Pull
from ..store import syncs, tables
from . import metadata, names
from .resource import NangoResource

on_progress: ContextVar[Callable[[Progress], None] | None] = ContextVar("on_progress", default=None)
"""Who, beside the run's log, wants to hear how far an execution in this process is."""


@dataclass
class Saved:
    """A pull on its way to the IO manager, and what came of it."""

    pull: Pull
    outcome: Outcome | None = None


class NangoIOManager(IOManager):
    """Writes what syncs fetch, and reads their tables for the assets downstream."""

    def __init__(self, nango: NangoResource) -> None:
        self._nango = nango

    def handle_output(self, context: OutputContext, obj: Saved) -> None:
        """Fetch and write; the numbers of it become the materialization's metadata.

        Raises Failure with the sentence that says why, when the execution fails.
        """
        outcome = obj.outcome = obj.pull.save(_reporter(context))
        for warning in outcome.warnings:
            context.log.warning(warning)
        if outcome.status != "succeeded":
            raise Failure(outcome.error or f"the execution was {outcome.status}.", allow_retries=False)
        source = names.source_key(obj.pull.row.sync)
        context.add_output_metadata(dict(metadata.of_outcome(outcome, self._nango.database, source)))

    def load_input(self, context: InputContext) -> Any:
        """The upstream sync's rows: a pandas DataFrame, or an iterator of dicts where the input's type says so."""
        upstream = context.upstream_output.definition_metadata if context.upstream_output else None
        name = (upstream or {}).get(names.SYNC_METADATA)
        if name is None:
            raise ConfigError(f"{context.asset_key.to_user_string()} is no sync; its rows cannot be loaded.")
        row = syncs.by_name(self._nango.database, str(name))
        if row is None or not row.sync.auto_mapping:
            raise ConfigError(f"{name} has no mapped table yet; run the sync first, with auto_mapping on.")
        if _wants_dicts(context.dagster_type.typing_type):
            return tables.rows(self._nango.database, row.id, row.sync)
        return tables.data_frame(self._nango.database, row.id, row.sync)


def _wants_dicts(type_: Any) -> bool:
    """Whether an input is annotated as an iterable of dicts."""
    return get_origin(type_) in {collections.abc.Iterator, collections.abc.Iterable, list}


def _reporter(context: OutputContext) -> Callable[[Progress], None]:
    """Progress into the run's log now and then, and to whoever listens each time."""
    listener = on_progress.get()
    last = 0.0

    def report(progress: Progress) -> None:
        nonlocal last
        if listener is not None:
            listener(progress)
        if progress.seconds - last >= 10:
            last = progress.seconds
            context.log.info(str(progress))

    return report
