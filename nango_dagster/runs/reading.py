"""Reading a source: its records go to the writers of their models, until it ends or has to stop."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from .. import clock
from ..checkpoint import Checkpoint, check_flat
from ..errors import Cancelled, ConfigError, Incomplete, Interrupted
from ..sources import Ending, Numbers, SourceContext
from ..store import Connection, checkpoints
from ..store.upsert import Upsert
from .access import reach_of_sync
from .children import open_parents
from .limits import limiter_of
from .opening import Opened, OpenModel, Plan, needs_all
from .services import StoreServices
from .values import Progress

Report = Callable[[Progress], None]
INTERRUPTED = "interrupted"
"""The ending of a script that used its time up after it had saved a checkpoint."""


@dataclass(frozen=True)
class Reading:
    """The result of reading: the ending of the source, or the error that stopped it."""

    ending: Ending | None = None
    error: Exception | None = None


class ModelSink:
    """The sink of one execution: hands records to the writers of its models, and stops a source that has to stop."""

    def __init__(self, plan: Plan, models: Sequence[OpenModel], began: float, report: Report) -> None:
        """`began` is when the execution began, of clock.monotonic()."""
        self.numbers = Numbers()
        self.checkpoint: checkpoints.Change | None = None
        """How the checkpoint has changed; None where it has not."""
        self.error: BaseException | None = None
        """The first error that a method raised, whatever the source made of it."""
        self._plan = plan
        self._models = {model.sync.model: model for model in models}
        self._first = models[0]
        self._began = began
        self._report = report

    def save(self, records: Sequence[bytes], model: str | None = None, where: str | None = None) -> None:
        """See Sink.save; also reports progress."""
        with self._call():
            self._model(model).writer.add(records, where)
            seconds = clock.monotonic() - self._began
            self._report(Progress(self._plan.sync.display_name, self.numbers.pages, self.numbers.records, seconds))

    def update(self, records: Sequence[bytes], model: str | None = None) -> int:
        """See Sink.update."""
        with self._call():
            return self._upsert(self._model(model), "update").update(records)

    def delete(self, keys: Sequence[str], model: str | None = None) -> int:
        """See Sink.delete."""
        with self._call():
            return self._upsert(self._model(model), "delete").delete(keys)

    def reject(self, where: str, reason: str, model: str | None = None) -> None:
        """See Sink.reject."""
        tally = self._model(model).writer.tally
        tally.unreadable += 1
        tally.reject(where, reason)

    def commit(self) -> None:
        """See Sink.commit."""
        with self._call():
            for model in self._models.values():
                self._upsert(model, "commit").flush()

    def save_checkpoint(self, checkpoint: Checkpoint | None) -> None:
        """See Sink.save_checkpoint."""
        with self._call():
            if checkpoint is not None:
                check_flat(checkpoint)
            *others, last = [self._upsert(model, "save a checkpoint") for model in self._models.values()]
            for writer in others:
                writer.flush()
            last.flush(also=lambda connection: self._store(connection, checkpoint))
            before = checkpoint_before(self._plan) if self.checkpoint is None else self.checkpoint.before
            self.checkpoint = checkpoints.Change(before, checkpoint)

    def open_window(self, model: str | None = None) -> bool:
        """See Sink.open_window."""
        with self._call():
            return self._upsert(self._model(model), "open a deletion window").open_window()

    def close_window(self, model: str | None = None) -> list[str]:
        """See Sink.close_window."""
        with self._call():
            writer = self._upsert(self._model(model), "close a deletion window")
            return writer.close_window(accept_deletes=self._plan.wishes.accept_deletes)

    def drop_window(self, model: str | None = None) -> None:
        """See Sink.drop_window."""
        with self._call():
            self._upsert(self._model(model), "drop a deletion window").drop_window()

    def rejections(self) -> int:
        """See Sink.rejections."""
        return sum(model.writer.tally.rejected for model in self._models.values())

    def check(self) -> None:
        """See Sink.check."""
        with self._call():
            pass

    def count(self, numbers: Numbers) -> None:
        """See Sink.count."""
        self.numbers = numbers

    def _store(self, connection: Connection, checkpoint: Checkpoint | None) -> None:
        checkpoints.save(connection, self._plan.claim.schedule_id, checkpoint)

    def _model(self, name: str | None) -> OpenModel:
        if name is None:
            return self._first
        if name not in self._models:
            declared = ", ".join(self._models)
            raise ConfigError(f"{self._plan.sync.display_name}: it saves no model {name}; its models are {declared}.")
        return self._models[name]

    def _upsert(self, model: OpenModel, verb: str) -> Upsert:
        if isinstance(model.writer, Upsert):
            return model.writer
        raise ConfigError(
            f"{self._plan.sync.display_name}: it cannot {verb} before its end: the model {model.sync.model} has no "
            "unique_key, so that its records are replaced as a whole; give it one, such as id."
        )

    @contextlib.contextmanager
    def _call(self) -> Iterator[None]:
        """One call of the source: after an error no other call does anything, and after each it may have to stop."""
        if self.error is not None:
            raise self.error
        try:
            yield
            if self._plan.lease.is_stopped():
                raise Cancelled
            self._check_duration()
        except BaseException as error:
            self.error = error
            raise

    def _check_duration(self) -> None:
        limit = self._plan.sync.max_duration
        if limit is not None and clock.monotonic() - self._began >= limit:
            if self._plan.sync.script is not None and self.checkpoint is not None and self.checkpoint.after is not None:
                raise Interrupted(
                    f"{self._plan.sync.display_name}: interrupted after max_duration ({limit:g} s); the next execution "
                    "goes on at the checkpoint."
                )
            raise Incomplete(
                f"{self._plan.sync.display_name}: stopped after max_duration ({limit:g} s); the pages so far are kept."
            )


def checkpoint_before(plan: Plan) -> Checkpoint | None:
    """The checkpoint that an execution begins at; None before the first and with a reset."""
    return None if plan.resets else checkpoints.of_text(plan.claim.checkpoint)


def read(plan: Plan, opened: Opened, sink: ModelSink, started_at: datetime) -> Reading:
    """Read the source to its end, or until it has to stop. Raises what the sink could not do."""
    with limiter_of(plan.database, plan.sync, plan.claim.connection_id) as limiter:
        context = SourceContext(
            connection_id=plan.claim.connection_id,
            variant=plan.claim.variant,
            access=opened.access,
            limiter=limiter,
            reach=reach_of_sync(plan.database, plan.settings, plan.sync, posted=plan.row.origin == "http"),
            etag=None if plan.resets else opened.datasets[0].etag,
            checkpoint=checkpoint_before(plan),
            started_at=started_at,
            facts={} if opened.access is None else opened.access.facts,
            needs_all=any(needs_all(dataset, plan.sync) for dataset in opened.datasets),
            is_stopped=plan.lease.is_stopped,
            parents=open_parents(plan, opened, sink),
            services=StoreServices(plan, opened) if plan.sync.script is not None else None,
        )
        try:
            reading = Reading(ending=plan.source.read(context, sink))
        except Exception as error:
            reading = Reading(error=error)
    if isinstance(sink.error, Interrupted):
        return Reading(ending=Ending(INTERRUPTED, complete=False, warnings=(str(sink.error),)))
    if isinstance(sink.error, Cancelled | Incomplete):
        return Reading(error=sink.error)
    if sink.error is not None:
        raise sink.error
    return reading
