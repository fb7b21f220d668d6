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

from ..config import from_document
from ..config.sync import Sync
from ..errors import Cancelled, Incomplete, RecordRejected, ScriptError
from ..fetch import Fetch
from ..http import origin as origin_of
from ..http import query_pairs
from ..records import decode, encode, key_reader, text_at
from ..sources import Ending, Numbers, Services, Sink, SourceContext
from .calls import Call, ScriptAnswer
from .pagination import Options, ScriptPage, pages
from .sending import Api, ScriptClient

log = logging.getLogger(__name__)

MAX_RECORD_BYTES: Final = 5_000_000
"""The largest record that a script may save; a larger one is rejected."""
METADATA: Final = "_nango_metadata"
SCRIPT_ENDED: Final = "script_ended"
"""The ending of a script that returned."""
_LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}
_MOST_LOGS: Final = 1000
_LONGEST_LOG: Final = 4000
_ESCAPED: Final = "$${"


class ScriptExecution:
    """One execution of a script, for one connection and variant."""

    def __init__(self, sync: Sync, context: SourceContext, sink: Sink, api: Api | None = None) -> None:
        """`api` replaces the base URL, headers and paging that the sync's config has."""
        self.sync = sync
        self.context = context
        self.checkpoint: dict[str, str | int | float | bool] | None = (
            None if context.checkpoint is None else dict(context.checkpoint)
        )
        """The checkpoint that was saved last; None before the first and after `clear_checkpoint`."""
        self._sink = sink
        self._client = ScriptClient(sync, context, api or Api.of(sync))
        self._pages = 0
        self._records = 0
        self._list_requests = 0
        self._list_retries = 0
        self._logs = 0
        self._doubts: list[str] = []
        self._warnings: dict[str, None] = {}
        self._began_anew = context.checkpoint is None
        self._has_window = False
        """Whether the window around the whole function is open, because it goes over several executions."""
        self._unmodified_since: dict[str, datetime | None] = {}
        self._own_keys: dict[str, set[str]] = {}

    def __enter__(self) -> ScriptExecution:
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
        """Replace the connection's metadata. What was saved before is committed first."""
        self.commit()
        self._services.change_metadata(metadata, replace=True)

    def update_metadata(self, metadata: Mapping[str, Any]) -> None:
        """Set keys of the connection's metadata. What was saved before is committed first."""
        self.commit()
        self._services.change_metadata(metadata, replace=False)

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
        described = self._described(call, fields)
        client = self._client.client_for_list(described.url)
        reading = Fetch(
            described,
            access=self._client.access,
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

    def _described(self, call: Call, fields: Mapping[str, Any]) -> Sync:
        """The list as a config; the script's own texts are no templates."""
        api, sync = self._client.api, self.sync
        base = call.base_url or api.base_url or ""
        endpoint = call.path.replace("${", _ESCAPED)
        url = endpoint if call.is_absolute else f"{base.rstrip('/')}/{endpoint.lstrip('/')}"
        own = {name.lower() for name in call.header_texts}
        headers = {name: value for name, value in api.headers.items() if name.lower() not in own}
        is_home = not call.is_absolute and call.base_url is None
        document = {
            **{name: value for name, value in sync.document().items() if name in _OF_LISTS},
            "name": sync.name,
            "url": url,
            "method": call.method.upper(),
            "headers": {**(headers if is_home else {}), **_escaped(call.header_texts)},
            "query_params": {**(dict(api.query_params) if is_home else {}), **_escaped(_by_name(call))},
            **({"body": _escaped(call.data)} if call.data is not None else {}),
            "integration": sync.integration,
            "allowed_origins": sync.allowed_origins,
        }
        paging = {name: value for name, value in sync.document().items() if name.startswith("paging_")}
        if any(name.startswith("paging_") and name not in _ANY_PAGING for name in fields):
            paging = {name: value for name, value in paging.items() if name in _ANY_PAGING}
        unknown = [name for name in fields if name not in _FIELDS]
        if unknown:
            raise ScriptError(
                f"{sync.display_name}: paginate has no option {unknown[0]}; wanted the paging fields of configs, such "
                "as paging_page_request_path, or Nango's as paginate={...}."
            )
        return from_document({name: value for name, value in {**document, **paging, **fields}.items() if value != ""})

    # --- records ------------------------------------------------------------------------------------------------------

    def save(self, records: Sequence[bytes], model: str | None = None, where: str = "of the script") -> None:
        """Add or replace records; they are committed with later ones, at the latest by `commit` or the end.

        `where` is the place in the script, for sentences about records that are rejected.
        """
        self._check_model(model)
        kept = self._acceptable(records, model, where)
        self._records += len(records)
        self._count()
        kept = self._unmodified(kept, model)
        if kept:
            self._sink.save(kept, model)

    def update(self, records: Sequence[bytes], model: str | None = None, where: str = "of the script") -> int:
        """Merge objects into the live records with their keys; the number of keys that no live record has."""
        self._check_model(model)
        kept = self._unmodified(self._acceptable(records, model, where), model)
        return self._sink.update(kept, model) if kept else 0

    def delete(self, records: Sequence[bytes], model: str | None = None, where: str = "of the script") -> int:
        """Delete the live records with the keys of these objects; how many there were."""
        self._check_model(model)
        keys: list[str] = []
        kept = self._unmodified(self._acceptable(records, model, where), model)
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
        """The records without Nango's metadata; those that are too large or no objects are rejected."""
        kept = []
        for position, record in enumerate(records):
            if len(record) > MAX_RECORD_BYTES:
                size = f"it has {len(record):,} bytes; a script may save at most {MAX_RECORD_BYTES:,} in a record"
                self._sink.reject(f"{position} {where}", size, model)
            elif record[:1] != b"{":
                self._sink.reject(f"{position} {where}", "it is no object; wanted an object with fields", model)
            else:
                kept.append(_without_metadata(record) if METADATA.encode() in record else record)
        return kept

    def _check_model(self, model: str | None) -> None:
        if model is not None and model not in self.models:
            declared = ", ".join(self.models)
            raise ScriptError(
                f"{self.sync.display_name}: the model {model!r} is not declared; its models are {declared}."
            )

    # --- merging ------------------------------------------------------------------------------------------------------

    def set_merging_strategy(self, strategy: str, model: str | None = None) -> None:
        """`override`, or `ignore_if_modified_after`: keep records that others change from now on.

        A second call for the same model changes nothing but a warning. Raises ScriptError for another strategy.
        """
        self._check_model(model)
        if strategy not in ("override", "ignore_if_modified_after"):
            raise ScriptError(
                f"{self.sync.display_name}: {strategy!r} is no merging strategy; wanted override or "
                "ignore_if_modified_after."
            )
        name = model or self.models[0]
        if name in self._own_keys:
            self.warn(f"the merging strategy of {name} was set before, and stays as it was.")
            return
        self.commit()
        self._own_keys[name] = set()
        if strategy == "ignore_if_modified_after":
            self._unmodified_since[name] = self._services.last_change(model)

    def _unmodified(self, records: list[bytes], model: str | None) -> list[bytes]:
        """The records that nobody else has changed since the merging strategy was set."""
        name = model or self.models[0]
        if name not in self._unmodified_since or not records:
            return records
        keys = [str(key) for key in key_reader(self.sync.key_fields)(records)]
        self.commit()
        moment, own = self._unmodified_since[name], self._own_keys[name]
        foreign = [key for key in keys if key not in own]
        modified = self._services.modified_after(moment, foreign, model) if moment is not None and foreign else set()
        own.update(key for key in keys if key not in modified)
        return [record for record, key in zip(records, keys, strict=True) if key not in modified]

    # --- stored records -----------------------------------------------------------------------------------------------

    def stored(self, model: str | None = None, ids: Sequence[Any] | None = None) -> Iterator[dict[str, Any]]:
        """The stored records with `_nango_metadata`; what was saved before is committed first."""
        self._check_model(model)
        self.commit()
        yield from self._services.records(model, None if ids is None else [str(id) for id in ids])

    # --- progress -----------------------------------------------------------------------------------------------------

    def save_checkpoint(self, checkpoint: Mapping[str, Any]) -> None:
        """Save the progress together with the records before it; both are committed on return.

        Raises ConfigError where it is no flat object of texts, numbers and booleans, and Interrupted where the
        execution has used its time up.
        """
        if self.sync.track_deletes is not None and not self._has_window and self._began_anew:
            for model in self._named_models():
                self._sink.drop_window(model)
                self._sink.open_window(model)
            self._has_window = True
        values = {
            name: value.isoformat() if isinstance(value, datetime) else value for name, value in checkpoint.items()
        }
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
        """Release a lock; False where this execution does not have it. What was saved before is committed first."""
        self.commit()
        return self._services.release_lock(key)

    def release_locks(self) -> None:
        """Release all locks. What was saved before is committed first."""
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


_ANY_PAGING: Final = ("paging_limit", "paging_limit_request_path")
_OF_LISTS: Final = frozenset({
    "format", "response_path", "records", "record_key_field", "missing_is_empty", "responses", "timeout", "retries",
    "rate_limit", "max_page_bytes", "max_page_records", "unique_key",
})  # fmt: skip
_FIELDS: Final = frozenset(
    {name for name in Sync.model_fields if name.startswith("paging_")}
    | {"response_path", "records", "record_key_field", "missing_is_empty", "responses", "format", "next_request"}
    | {"max_pages", "max_total", "retries", "timeout", "max_page_bytes", "max_page_records"}
)
"""The fields of a config that describe a list; a script gives them to `paginate`."""


def model_names(sync: Sync) -> tuple[str, ...]:
    """The names of a sync's models, its own `model` first."""
    return (sync.model, *(name for name in sync.models if name != sync.model))


def _by_name(call: Call) -> dict[str, Any]:
    if isinstance(call.params, str) or call.params is None:
        return {}
    return {name: value for name, value in call.params.items() if query_pairs({name: value})}


def _escaped(value: Any) -> Any:
    """A value whose texts are no templates."""
    if isinstance(value, str):
        return value.replace("${", _ESCAPED)
    if isinstance(value, Mapping):
        return {name: _escaped(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_escaped(item) for item in value]
    return value


def _without_metadata(record: bytes) -> bytes:
    """The record without the metadata that stored records have."""
    if text_at(record, [METADATA]) is None:
        return record
    values = decode(record)
    return encode({name: value for name, value in values.items() if name != METADATA})
