"""All that a script can do in one execution, whatever its language: requests, lists, records, checkpoints, windows.

Records are JSON texts in UTF-8, one object each; other values are plain JSON values. The methods are called by one
thread at a time. A method raises what keeps the script from going on: `Cancelled`, `Interrupted` after `max_duration`,
an error of the API or of the store. A script that catches it gets it again from the next method.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Final

from ..config.sync import Sync
from ..errors import Cancelled, Incomplete, RecordRejected, ScriptError
from ..fetch import Fetch
from ..http import origin as origin_of
from ..records import key_reader
from ..sources import Ending, Numbers, Services, Sink, SourceContext
from . import declared_values
from .calls import Call, ScriptAnswer
from .lists import list_of
from .merging import Merging
from .pagination import Options, ScriptPage, pages
from .records import defect_of, without_metadata
from .sending import Api, ScriptClient

log = logging.getLogger(__name__)

SCRIPT_ENDED: Final = "script_ended"
"""The ending of a script that returned."""
_LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}
_MOST_LOGS: Final = 1000
_LONGEST_LOG: Final = 4000


class ScriptExecution:
    """One execution of a script, for one connection and variant."""

    def __init__(self, sync: Sync, context: SourceContext, sink: Sink, api: Api | None = None) -> None:
        """`api` replaces the base URL, headers and paging that the sync's config has."""
        self.sync = sync
        self.context = context
        outdated = declared_values.outdated(sync, context.checkpoint)
        self._warnings: dict[str, None] = {} if outdated is None else {outdated: None}
        stored = context.checkpoint if outdated is None else None
        self.checkpoint: dict[str, str | int | float | bool] | None = None if stored is None else dict(stored)
        """The checkpoint that was saved last; None before the first and after `clear_checkpoint`."""
        self._sink = sink
        self._client = ScriptClient(sync, context, api or Api.of(sync))
        self._pages = 0
        self._records = 0
        self._list_requests = 0
        self._list_retries = 0
        self._logs = 0
        self._doubts: list[str] = []
        self._began_anew = self.checkpoint is None
        self._has_window = False
        """Whether the window around the whole function is open, because it goes over several executions."""
        self._merging = Merging(sync, lambda: self._services, sink.commit)

    def __enter__(self) -> ScriptExecution:
        if self.sync.metadata_model is not None:
            declared_values.check_metadata(self.sync, self.connection_id, self._services.metadata())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.context.services is not None:
            self.context.services.release_locks()
        self._client.close()

    @property
    def api(self) -> Api:
        """The base URL, headers and paging that requests begin with."""
        return self._client.api

    # --- who it runs for ----------------------------------------------------------------------------------------------

    @property
    def connection_id(self) -> str:
        """The connection's id."""
        return self.context.connection_id

    @property
    def variant(self) -> str:
        """The variant, `base` by default."""
        return self.context.variant

    @property
    def integration(self) -> str:
        """The key of the integration."""
        return self.sync.integration_key

    @property
    def last_sync_date(self) -> datetime | None:
        """When the last successful execution began; None before the first and after a reset."""
        return self._services.last_sync_date

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables `NANGO_ENV_NAME` of the server, as NAME."""
        return self._services.environment

    @property
    def models(self) -> Sequence[str]:
        """The names of the models that it may save."""
        return model_names(self.sync)

    def metadata(self) -> dict[str, Any] | None:
        """The connection's metadata as it is now."""
        self._check()
        return self._services.metadata()

    def set_metadata(self, metadata: Mapping[str, Any]) -> None:
        """Replace the connection's metadata. Records saved before are committed first.

        Raises ConfigError where it does not fit `metadata_model`.
        """
        self._change_metadata(metadata, replace=True)

    def update_metadata(self, metadata: Mapping[str, Any]) -> None:
        """Set keys of the connection's metadata. See `set_metadata`."""
        self._change_metadata(metadata, replace=False)

    def _change_metadata(self, metadata: Mapping[str, Any], *, replace: bool) -> None:
        self.commit()
        if self.sync.metadata_model is not None:
            kept = {} if replace else self._services.metadata() or {}
            declared_values.check_metadata(self.sync, self.connection_id, {**kept, **metadata})
        self._services.change_metadata(metadata, replace=replace)

    def connection(self, *, force_refresh: bool = False, refresh_token: bool = False) -> dict[str, Any]:
        """The connection with its credentials, as Nango's API shows it."""
        self._check()
        return self._services.connection(force_refresh=force_refresh, refresh_token=refresh_token)

    @property
    def _services(self) -> Services:
        if self.context.services is None:
            raise ScriptError(f"{self.sync.display_name}: there is no store behind this execution.")
        return self.context.services

    # --- requests -----------------------------------------------------------------------------------------------------

    def request(self, call: Call) -> ScriptAnswer:
        """Send a request. Raises ApiError with the `answer` of the API for any status but 2xx."""
        self._check()
        answer = self._client.send(call)
        self._count()
        return answer

    def paginate(self, call: Call, options: Mapping[str, Any] | None = None) -> Iterator[ScriptPage]:
        """The pages of a list, with Nango's options; those of the API fill in what `options` lacks."""
        merged = Options({**self._client.api.paginate, **(options or {})})
        home = origin_of(self._client.build(call).url)

        def send(call: Call, *, is_link: bool) -> ScriptAnswer:
            self._check()
            return self._client.send(call, home=home if is_link else None)

        for page in pages(call, merged, send):
            self._pages += 1
            self._count()
            yield page

    def fetch(self, call: Call, fields: Mapping[str, Any]) -> Iterator[ScriptPage]:
        """The pages of a list, with the paging fields of YAML configs; the next one is requested meanwhile."""
        self._check()
        described = list_of(self.sync, self.api, call, fields)
        client, access = self._client.for_list(call)
        reading = Fetch(
            described,
            access=access,
            cancelled=self.context.is_stopped,
            limiter=self.context.limiter,
            client=client,
        )
        try:
            for page in reading:
                for rejected in page.rejected:
                    self._sink.reject(f"{rejected.position} of page {page.number}", rejected.reason)
                self._pages += 1
                self._count()
                yield ScriptPage(page.records)
        finally:
            reading.close()
            client.close()
            self._list_requests += client.requests
            self._list_retries += client.retries
            self._count()
        if doubt := reading.paging_doubt:
            self._doubts.append(doubt)
        elif reading.stop is not None and not reading.stop.complete:
            self._doubts.append(f"a list ended before its end ({reading.stop.reason}).")

    # --- records ------------------------------------------------------------------------------------------------------

    def save(self, records: Sequence[bytes], model: str | None, where: str) -> None:
        """Add or replace records; they are committed with later ones, at the latest by `commit` or the end.

        `where` is the place in the script, for sentences about records that are rejected.
        """
        self._check_model(model)
        kept = self._acceptable(records, model, where)
        self._records += len(records)
        self._count()
        kept = self._merging.unmodified(kept, model)
        if kept:
            self._sink.save(kept, model, where)

    def update(self, records: Sequence[bytes], model: str | None = None, where: str = "of the script") -> int:
        """Merge objects into the live records with their keys; the number of keys that no live record has."""
        self._check_model(model)
        kept = self._merging.unmodified(self._acceptable(records, model, where), model)
        return self._sink.update(kept, model) if kept else 0

    def delete(self, records: Sequence[bytes], model: str | None = None, where: str = "of the script") -> int:
        """Delete the live records with the keys of these objects; how many there were."""
        self._check_model(model)
        keys: list[str] = []
        kept = self._merging.unmodified(self._acceptable(records, model, where), model)
        for position, key in enumerate(key_reader(self.sync.key_fields)(kept)):
            if isinstance(key, RecordRejected):
                self._sink.reject(f"{position} {where}", str(key), model)
            else:
                keys.append(str(key))
        return self._sink.delete(keys, model) if keys else 0

    def commit(self) -> None:
        """Commit everything that was saved before."""
        self._sink.commit()

    def _acceptable(self, records: Sequence[bytes], model: str | None, where: str) -> list[bytes]:
        """The records that may be saved; the others are rejected, each with its reason."""
        kept = []
        for position, record in enumerate(records):
            if reason := defect_of(record):
                self._sink.reject(f"{position} {where}", reason, model)
            else:
                kept.append(without_metadata(record))
        return kept

    def _check_model(self, model: str | None) -> None:
        if model is not None and model not in self.models:
            declared = ", ".join(self.models)
            raise ScriptError(
                f"{self.sync.display_name}: the model {model!r} is not declared; its models are {declared}."
            )

    def set_merging_strategy(self, strategy: str, model: str | None = None) -> None:
        """`override`, or `ignore_if_modified_after`: keep records that others change from now on.

        A second call for the same model changes nothing but a warning. Raises ScriptError for another strategy.
        """
        self._check_model(model)
        if not self._merging.set(strategy, model):
            self.warn(f"the merging strategy of {model or self.sync.model} was set before, and stays as it was.")

    # --- stored records -----------------------------------------------------------------------------------------------

    def stored(self, model: str | None = None, ids: Sequence[Any] | None = None) -> Iterator[dict[str, Any]]:
        """The stored records with `_nango_metadata`; what was saved before is committed first."""
        self._check_model(model)
        self.commit()
        yield from self._services.records(model, None if ids is None else [str(id) for id in ids])

    # --- progress -----------------------------------------------------------------------------------------------------

    def save_checkpoint(self, checkpoint: Mapping[str, Any]) -> None:
        """Save the progress together with the records before it; both are committed on return.

        Raises ScriptError where it does not fit `checkpoint_model`, ConfigError where it is no flat object of texts,
        numbers and booleans, and Interrupted where the execution has used its time up.
        """
        values = {
            name: value.isoformat() if isinstance(value, datetime) else value for name, value in checkpoint.items()
        }
        declared_values.check_checkpoint(self.sync, values)
        if self.sync.track_deletes is not None and not self._has_window and self._began_anew:
            for model in self._named_models():
                self._sink.drop_window(model)
                self._sink.open_window(model)
            self._has_window = True
        self._sink.save_checkpoint(values)
        self.checkpoint = values

    def clear_checkpoint(self) -> None:
        """Forget the progress: the next execution begins anew."""
        self._sink.save_checkpoint(None)
        self.checkpoint = None

    def open_window(self, model: str | None = None) -> bool:
        """Begin to track deletions, or go on; whether a window was open."""
        self._check_model(model)
        return self._sink.open_window(model)

    def close_window(self, model: str | None = None) -> list[str]:
        """Delete the records that were not saved since the window was opened; their keys.

        Raises Incomplete where a list was perhaps not read to its end; the window stays open then.
        """
        self._check_model(model)
        if self._doubts:
            raise Incomplete(f"{self.sync.display_name}: nothing was deleted: {self._doubts[0]}")
        return self._sink.close_window(model)

    # --- locks --------------------------------------------------------------------------------------------------------

    def acquire_lock(self, key: str, ttl_ms: int) -> bool:
        """Take or extend a lock that all executions share; False where another one has it."""
        if not 1 <= len(key) <= 255 or ttl_ms <= 0:
            raise ScriptError("a lock has a key of 1 to 255 characters and a ttl above 0 ms.")
        self._check()
        return self._services.acquire_lock(key, ttl_ms / 1000)

    def release_lock(self, key: str) -> bool:
        """Release a lock; False where this execution does not have it. Records saved before are committed first."""
        self.commit()
        return self._services.release_lock(key)

    def release_locks(self) -> None:
        """Release all locks. Records saved before are committed first."""
        self.commit()
        self._services.release_locks()

    # --- messages -----------------------------------------------------------------------------------------------------

    def log(self, message: str, level: str = "info") -> None:
        """Write a line to the log of the run, without secrets."""
        self._check()
        self._logs += 1
        if self._logs > _MOST_LOGS:
            if self._logs == _MOST_LOGS + 1:
                log.warning("%s: more than %s messages; the others are left out.", self.sync.display_name, _MOST_LOGS)
            return
        text = self.redact(message)
        text = text if len(text) <= _LONGEST_LOG else f"{text[:_LONGEST_LOG]}…"
        log.log(_LEVELS.get(level, logging.INFO), "%s: %s", self.sync.display_name, text)

    def warn(self, sentence: str) -> None:
        """Add a sentence to the warnings of the job."""
        self._warnings[self.redact(sentence)] = None

    def redact(self, text: str) -> str:
        """The text without the secrets of the connection."""
        return self._client.redact(text)

    # --- the end ------------------------------------------------------------------------------------------------------

    def ending(self) -> Ending:
        """The ending of a script that returned: whether all records of the source were saved."""
        tracks = self.sync.track_deletes is not None
        complete = self._began_anew and not (tracks and self.checkpoint is not None)
        if tracks and (self._has_window or not self._began_anew):
            complete = False
            self._end_window()
        doubt = self._doubts[0] if self._doubts else None
        return Ending(SCRIPT_ENDED, complete and doubt is None, doubt=doubt, warnings=tuple(self._warnings))

    def _end_window(self) -> None:
        """Delete what a scan over several executions did not save, where the script has cleared its checkpoint."""
        if self.checkpoint is not None:
            self.warn(
                "track_deletes deleted nothing: the script keeps a checkpoint, so it has not read everything. "
                "clear_checkpoint() at the end of a whole list says that it has."
            )
            return
        for model in self._named_models():
            if not self._sink.open_window(model):
                self._sink.drop_window(model)
                self.warn("track_deletes deleted nothing: not all of this list was read since its beginning.")
            elif not self._doubts:
                self._sink.close_window(model)

    def _named_models(self) -> Sequence[str | None]:
        return self.models if len(self.models) > 1 else (None,)

    # --- inside -------------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        """Raise what the sink has raised before, or what stops the execution now."""
        if self.context.is_stopped():
            raise Cancelled
        self._sink.check()

    def _count(self) -> None:
        requests = self._client.requests + self._list_requests
        retries = self._client.retries + self._list_retries
        self._sink.count(Numbers(self._pages, self._records, requests, retries))


def model_names(sync: Sync) -> tuple[str, ...]:
    """The names of a sync's models, its own `model` first."""
    return (sync.model, *(name for name in sync.models if name != sync.model))
