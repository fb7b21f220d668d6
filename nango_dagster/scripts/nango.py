"""The object `nango` of a Python sync script: Nango's members in snake_case."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

from ..errors import ApiError, ScriptError
from ..records import described
from .calls import Call, ScriptAnswer
from .execution import ScriptExecution
from .pagination import ScriptPage
from .records import Records, keyed, plain_object, texts_of


class ActionError(ScriptError):
    """An error that a script raises on purpose, with a payload for the job.

    >>> raise ActionError({"message": "no project is chosen"})
    Traceback (most recent call last):
    nango_dagster.scripts.nango.ActionError: no project is chosen
    """

    def __init__(self, payload: Mapping[str, Any] | str | None = None) -> None:
        self.payload = {"message": payload} if isinstance(payload, str) else dict(payload or {})
        super().__init__(str(self.payload.get("message") or self.payload or "the script raised an ActionError."))


class NangoSync:
    """The operations of a sync script: requests, records, checkpoints, metadata, deletions, locks.

    `nango.get("/issues", params={"page": 2}).data` is one request; `for page in nango.paginate("/issues",
    link_rel="next"): yield page` saves a list.
    """

    ActionError = ActionError

    def __init__(self, execution: ScriptExecution, file: str | None = None) -> None:
        """`file` is the script's path, for the places in sentences."""
        self._execution = execution
        self._file = file
        self._file_name = os.path.basename(file or "")

    # --- who it runs for ----------------------------------------------------------------------------------------------

    @property
    def connection_id(self) -> str:
        """The connection's id."""
        return self._execution.connection_id

    @property
    def integration(self) -> str:
        """The key of the integration."""
        return self._execution.integration

    @property
    def variant(self) -> str:
        """The variant, `base` by default."""
        return self._execution.variant

    @property
    def last_sync_date(self) -> datetime | None:
        """When the last successful execution began; None before the first and after a reset."""
        return self._execution.last_sync_date

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables `NANGO_ENV_NAME` of the server, as NAME."""
        return self._execution.environment

    @property
    def metadata(self) -> dict[str, Any]:
        """The connection's metadata as it is now; a change of it is saved by `update_metadata`."""
        return self._execution.metadata() or {}

    def update_metadata(self, metadata: Mapping[str, Any] | None = None, **keys: Any) -> None:
        """Set keys of the connection's metadata, and leave the others."""
        self._execution.update_metadata({**(metadata or {}), **keys})

    def set_metadata(self, metadata: Mapping[str, Any]) -> None:
        """Replace the connection's metadata."""
        self._execution.set_metadata(metadata)

    @property
    def connection(self) -> dict[str, Any]:
        """The connection as Nango's API shows it, with its credentials; they are read when this is."""
        return self._execution.connection()

    def get_connection(self, *, force_refresh: bool = False, refresh_token: bool = False) -> dict[str, Any]:
        """The connection, with a new token or the refresh token where that is needed."""
        return self._execution.connection(force_refresh=force_refresh, refresh_token=refresh_token)

    # --- requests -----------------------------------------------------------------------------------------------------

    def get(self, endpoint: str, **options: Any) -> ScriptAnswer:
        """Send a GET; the options are those of `proxy`."""
        return self.proxy(endpoint, method="GET", **options)

    def post(self, endpoint: str, **options: Any) -> ScriptAnswer:
        """Send a POST; the options are those of `proxy`."""
        return self.proxy(endpoint, method="POST", **options)

    def put(self, endpoint: str, **options: Any) -> ScriptAnswer:
        """Send a PUT; the options are those of `proxy`."""
        return self.proxy(endpoint, method="PUT", **options)

    def patch(self, endpoint: str, **options: Any) -> ScriptAnswer:
        """Send a PATCH; the options are those of `proxy`."""
        return self.proxy(endpoint, method="PATCH", **options)

    def delete(self, endpoint: str, **options: Any) -> ScriptAnswer:
        """Send a DELETE; the options are those of `proxy`."""
        return self.proxy(endpoint, method="DELETE", **options)

    def proxy(
        self,
        endpoint: str,
        *,
        method: str = "GET",
        params: Mapping[str, Any] | str | None = None,
        data: Any = None,
        headers: Mapping[str, Any] | None = None,
        retries: int | None = None,
        retry_on: Sequence[int] = (),
        base_url: str | None = None,
    ) -> ScriptAnswer:
        """Send a request with the connection's credentials; the answer has `.status`, `.headers` and `.data`.

        `endpoint` is a path behind the base URL, or a whole URL. A status that is not 2xx raises ApiError, whose
        `.answer` is the answer.
        """
        return self._execution.request(
            Call(method, endpoint, params, data, headers or {}, retries, tuple(retry_on), base_url)
        )

    def paginate(
        self,
        endpoint: str,
        *,
        method: str = "GET",
        params: Mapping[str, Any] | str | None = None,
        data: Any = None,
        headers: Mapping[str, Any] | None = None,
        retries: int | None = None,
        retry_on: Sequence[int] = (),
        base_url: str | None = None,
        paginate: Mapping[str, Any] | None = None,
        on_page: Callable[[Mapping[str, Any]], None] | None = None,
        **fields: Any,
    ) -> Iterator[Records]:
        """The pages of a list, each a list of records.

        The list is described by the paging fields of YAML configs as keywords, such as
        `paging_page_request_path="page"` (`link_rel="next"` is short for `paging_header_link_rel`), or by Nango's
        options as `paginate={"type": "cursor", ...}`.
        """
        call = Call(method, endpoint, params, data, headers or {}, retries, tuple(retry_on), base_url)
        if paginate is not None or (self._execution.api.paginate and not fields):
            if fields:
                raise ScriptError(f"paginate: {next(iter(fields))} and paginate={{...}} describe one list; keep one.")
            return self._paged(self._execution.paginate(call, paginate), on_page)
        if "link_rel" in fields:
            fields["paging_header_link_rel"] = fields.pop("link_rel")
        if retries is not None:
            fields["retries"] = retries
        return self._paged(self._execution.fetch(call, fields), on_page)

    @staticmethod
    def _paged(pages: Iterator[ScriptPage], on_page: Callable[[Mapping[str, Any]], None] | None) -> Iterator[Records]:
        for page in pages:
            if page.value is not None:
                raise ApiError(f"response_path holds {described(page.value)}; wanted a list of records.")
            yield Records(page.records)
            if on_page is not None and page.tells:
                on_page({"next_page_param": page.next, "response": page.answer})

    # --- records ------------------------------------------------------------------------------------------------------

    def batch_save(self, records: Any, model: str | None = None) -> bool:
        """Add or replace records; they are committed on return. Of equal keys the last one wins."""
        if texts := texts_of(records):
            self._execution.save(texts, model, self._place("batch_save"))
            self._execution.commit()
        return True

    def batch_update(self, records: Any, model: str | None = None) -> int:
        """Merge objects into the records with their keys; returns how many keys no record has."""
        texts = texts_of(records)
        return self._execution.update(texts, model, self._place("batch_update")) if texts else 0

    def batch_delete(self, records: Any, model: str | None = None) -> int:
        """Delete the records with these keys; they are objects with the key, or ids. Returns how many there were."""
        texts = keyed(records, self._execution.sync.key_fields)
        return self._execution.delete(texts, model, self._place("batch_delete")) if texts else 0

    def take(self, yielded: Any, line: int) -> None:
        """Save what a script yields at a line: a record, a list of records, or a model's name with one of these."""
        model = None
        if isinstance(yielded, tuple) and len(yielded) == 2 and isinstance(yielded[0], str):
            model, yielded = yielded
        if texts := texts_of(yielded):
            self._execution.save(texts, model, f"of the yield, {self._file_name} line {line}")

    def list_records(self, model: str | None = None) -> Iterator[dict[str, Any]]:
        """The stored records, each with `_nango_metadata`."""
        return self._execution.stored(model)

    def get_records_by_ids(self, ids: Sequence[Any], model: str | None = None) -> dict[Any, dict[str, Any]]:
        """The stored records with these ids; those that are not stored are left out."""
        by_text = {str(id): id for id in ids}
        return {by_text[record["id"]]: record for record in self._with_ids(ids, model)}

    def _with_ids(self, ids: Sequence[Any], model: str | None) -> Iterator[dict[str, Any]]:
        for record in self._execution.stored(model, ids):
            yield {**record, "id": str(record["id"])}

    def set_merging_strategy(self, strategy: str, model: str | None = None) -> None:
        """`override`, or `ignore_if_modified_after`: keep records that others change from now on."""
        self._execution.set_merging_strategy(strategy, model)

    # --- deletions ----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def track_deletes(self, model: str | None = None) -> Iterator[None]:
        """Delete the records that the block does not save, where it ends without an exception.

        A block that an exception ends deletes nothing; the next execution goes on with it.
        """
        self._execution.open_window(model)
        yield
        self._execution.close_window(model)

    def track_deletes_start(self, model: str | None = None) -> None:
        """Begin to track deletions, or go on with what an execution before began."""
        self._execution.open_window(model)

    def track_deletes_end(self, model: str | None = None) -> dict[str, list[str]]:
        """Delete the records that were not saved since the start; returns `deleted_keys`."""
        return {"deleted_keys": self._execution.close_window(model)}

    # --- progress -----------------------------------------------------------------------------------------------------

    @property
    def checkpoint(self) -> dict[str, Any]:
        """How far the script has read; empty before the first execution and after `clear_checkpoint`."""
        return dict(self._execution.checkpoint or {})

    def save_checkpoint(self, checkpoint: Any = None, **values: Any) -> None:
        """Save how far the script has read, in the transaction of the records before it.

        `checkpoint` is a dictionary, or an object of the class that `@sync(checkpoint=...)` names.
        """
        given = {} if checkpoint is None else plain_object(checkpoint)
        self._execution.save_checkpoint({**given, **values})

    def clear_checkpoint(self) -> None:
        """Forget the checkpoint, as at the end of a whole list."""
        self._execution.clear_checkpoint()

    # --- the rest -----------------------------------------------------------------------------------------------------

    def log(self, *message: Any, level: str = "info") -> None:
        """Write to the log of the run; levels are debug, info, warn and error."""
        self._execution.log(" ".join(map(str, message)), level)

    def try_acquire_lock(self, key: str, ttl_ms: int) -> bool:
        """Take a lock that all executions share, for so long; False where another execution has it."""
        return self._execution.acquire_lock(key, ttl_ms)

    def release_lock(self, key: str) -> bool:
        """Release a lock."""
        return self._execution.release_lock(key)

    def release_all_locks(self) -> None:
        """Release all locks; the end of the script does so too."""
        self._execution.release_locks()

    def __getattr__(self, name: str) -> NoReturn:
        reason = _ELSEWHERE.get(name)
        if reason is None:
            raise AttributeError(f"nango has no {name!r}; see docs/how-to/python-scripts.md.")
        raise AttributeError(f"nango.{name} {reason}")

    def _place(self, verb: str) -> str:
        """The place in the script that calls, such as `of batch_save, issues.py line 12`."""
        frame = sys._getframe(2)
        while frame.f_back is not None and frame.f_code.co_filename != self._file:
            frame = frame.f_back
        if frame.f_code.co_filename != self._file:
            return f"of {verb}"
        return f"of {verb}, {self._file_name} line {frame.f_lineno}"


_ELSEWHERE = {
    "trigger_action": "does not run here: nango_dagster runs syncs, and no actions.",
    "trigger_sync": "is done over the HTTP API or with `nango-dagster trigger`.",
    "start_sync": "is done over the HTTP API or with `nango-dagster start`.",
    "batch_send": "is an old name of batch_save.",
}
