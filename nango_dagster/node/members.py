"""The members of a script's `nango` object, each a call of the execution.

A member gets the values of its call and the raw bytes behind them, and gives a plain value and raw bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from http.client import responses
from itertools import count, islice
from typing import Any, Final

import msgspec

from ..errors import ApiError, ConfigError, ScriptError
from ..records.raw_json import items_of
from ..scripts import Call, ScriptAnswer, ScriptExecution, ScriptPage
from ..scripts.sending import Api, ScriptClient

Answer = tuple[Any, bytes]
Member = Callable[..., Answer]
_NOTHING: Final[Answer] = (None, b"")
_STORED_PAGE: Final = 100
_MOST_LISTS: Final = 100
"""How many lists a script may read at the same time."""


class Members:
    """The members for one execution."""

    def __init__(self, execution: ScriptExecution, provider: str) -> None:
        self.errors: dict[int, ApiError] = {}
        """The errors of requests that the script knows of, by the number that its error has."""
        self._execution = execution
        self._provider = provider
        self._lists: dict[int, Iterator[ScriptPage]] = {}
        self._stored: dict[int, Iterator[dict[str, Any]]] = {}
        self._numbers = count(1)
        self._by_name: Mapping[str, Member] = {
            "batchSave": self._save,
            "batchUpdate": self._update,
            "batchDelete": self._delete,
            "trackDeletesStart": self._open_window,
            "trackDeletesEnd": self._close_window,
            "deleteRecordsFromPreviousExecutions": self._delete_unseen,
            "getCheckpoint": lambda: (execution.checkpoint, b""),
            "saveCheckpoint": self._save_checkpoint,
            "clearCheckpoint": self._clear_checkpoint,
            "getMetadata": lambda: (execution.metadata(), b""),
            "setMetadata": self._set_metadata,
            "updateMetadata": self._update_metadata,
            "getConnection": self._connection,
            "getToken": self._token,
            "getIntegration": self._integration,
            "getEnvironmentVariables": self._environment,
            "getWebhookURL": lambda: _NOTHING,
            "getFlowAttributes": lambda: _NOTHING,
            "setMergingStrategy": self._set_merging,
            "tryAcquireLock": self._acquire,
            "releaseLock": lambda lock: (execution.release_lock(str(lock["key"])), b""),
            "releaseAllLocks": self._release_all,
            "getRecordsByIds": self._records_by_ids,
            "listRecords": self._list_records,
            "proxy": self._proxy,
            "paginate": self._paginate,
            "nextPage": self._next_page,
            "closePages": self._close_pages,
            "uncontrolledFetch": self._fetch,
        }

    def call(self, name: str, values: Sequence[Any], body: bytes) -> Answer:
        """The result of a member. Raises ScriptError for one that does not run here."""
        member = self._by_name.get(name)
        if member is None:
            raise ScriptError(f"nango.{name} does not run here: there are syncs alone, no actions and no functions.")
        return member(body, *values) if name in _WITH_BODY else member(*values)

    # --- records ------------------------------------------------------------------------------------------------------

    def _save(self, body: bytes, model: str) -> Answer:
        self._execution.save(_records(body), model, f"of a batch of {model}")
        self._execution.commit()
        return True, b""

    def _update(self, body: bytes, model: str) -> Answer:
        self._execution.update(_records(body), model, f"of a batch of {model}")
        return True, b""

    def _delete(self, body: bytes, model: str) -> Answer:
        self._execution.delete(_records(body), model, f"of a batch of {model}")
        return True, b""

    def _open_window(self, model: str) -> Answer:
        self._execution.open_window(model)
        return _NOTHING

    def _close_window(self, model: str) -> Answer:
        return {"deletedKeys": self._execution.close_window(model)}, b""

    def _delete_unseen(self, model: str) -> Answer:
        self._execution.open_window(model)
        return self._close_window(model)

    def _set_merging(self, options: Mapping[str, Any], model: str | None = None) -> Answer:
        self._execution.set_merging_strategy(str(options.get("strategy")), model)
        return _NOTHING

    def _records_by_ids(self, ids: Sequence[Any], model: str) -> Answer:
        at = {str(id): position for position, id in enumerate(ids)}
        stored = self._execution.stored(model, list(ids))
        return [[at[str(record["id"])], record] for record in stored if str(record.get("id")) in at], b""

    def _list_records(self, model: str, options: Mapping[str, Any] | None = None) -> Answer:
        cursor = (options or {}).get("cursor")
        number = cursor if isinstance(cursor, int) else next(self._numbers)
        records = self._stored.setdefault(number, self._execution.stored(model))
        page = list(islice(records, _STORED_PAGE))
        return {"records": page, "next_cursor": number if len(page) == _STORED_PAGE else None}, b""

    # --- progress and the connection ----------------------------------------------------------------------------------

    def _save_checkpoint(self, checkpoint: Mapping[str, Any]) -> Answer:
        self._execution.save_checkpoint(checkpoint)
        return _NOTHING

    def _clear_checkpoint(self) -> Answer:
        self._execution.clear_checkpoint()
        return _NOTHING

    def _set_metadata(self, metadata: Mapping[str, Any]) -> Answer:
        self._execution.set_metadata(metadata)
        return _NOTHING

    def _update_metadata(self, metadata: Mapping[str, Any]) -> Answer:
        self._execution.update_metadata(metadata)
        return _NOTHING

    def _connection(
        self, integration: str | None = None, connection_id: str | None = None, options: Any = None
    ) -> Answer:
        self._check_own("nango.getConnection", integration, connection_id)
        flags = options if isinstance(options, Mapping) else {}
        fresh = bool(flags.get("forceRefresh"))
        connection = self._execution.connection(force_refresh=fresh, refresh_token=bool(flags.get("refreshToken")))
        return connection, b""

    def _check_own(self, name: str, integration: Any, connection_id: Any) -> None:
        """Raise ScriptError where a call names another connection than that of the execution."""
        own = (self._execution.integration, self._execution.connection_id)
        if (integration or own[0], connection_id or own[1]) != own:
            raise ScriptError(f"{name} uses the execution's own connection, and was asked for another.")

    def _token(self) -> Answer:
        credentials = self._execution.connection().get("credentials") or {}
        if credentials.get("type") == "OAUTH1":
            names = {"oAuthToken": "oauth_token", "oAuthTokenSecret": "oauth_token_secret"}
            return {name: credentials.get(stored) for name, stored in names.items()}, b""
        return credentials.get("access_token", credentials), b""

    def _integration(self, _: Any = None) -> Answer:
        key = self._execution.integration
        return {"unique_key": key, "display_name": key, "provider": self._provider}, b""

    def _environment(self) -> Answer:
        return [{"name": name, "value": value} for name, value in self._execution.environment.items()], b""

    def _acquire(self, lock: Mapping[str, Any]) -> Answer:
        return self._execution.acquire_lock(str(lock.get("key", "")), int(lock.get("ttlMs", 0))), b""

    def _release_all(self) -> Answer:
        self._execution.release_locks()
        return _NOTHING

    # --- requests -----------------------------------------------------------------------------------------------------

    def _proxy(self, body: bytes, config: Mapping[str, Any]) -> Answer:
        call = self._own_call(config, body)
        return self._answered(lambda: self._execution.request(call))

    def _own_call(self, config: Mapping[str, Any], body: bytes) -> Call:
        """A request of the execution's connection. Raises ScriptError for that of another one."""
        self._check_own("a request", config.get("providerConfigKey"), config.get("connectionId"))
        return _call(config, body)

    def _fetch(self, body: bytes, config: Mapping[str, Any]) -> Answer:
        """A request without the connection's credentials, wherever it goes."""
        execution = self._execution
        client = ScriptClient(execution.sync, replace(execution.context, access=None), Api())
        try:
            return self._answered(lambda: client.send(_call(config, body)))
        finally:
            client.close()

    def _answered(self, send: Callable[[], ScriptAnswer]) -> Answer:
        try:
            answer = send()
        except ApiError as error:
            return self._failed(error)
        return _head(answer), answer.content

    def _failed(self, error: ApiError) -> Answer:
        """The error that the script gets for an error of the API: with its answer, or without one."""
        number = next(self._numbers)
        self.errors[number] = error
        if error.answer is not None:
            return {**_head(error.answer), "error": number}, error.answer.content
        return {"network": "ECONNABORTED", "message": str(error), "error": number}, b""

    def _paginate(self, body: bytes, config: Mapping[str, Any], wants_response: bool = False) -> Answer:
        if len(self._lists) >= _MOST_LISTS:
            raise ScriptError(f"the script reads more than {_MOST_LISTS} lists at the same time.")
        number = next(self._numbers)
        self._lists[number] = self._execution.paginate(self._own_call(config, body), config.get("paginate"))
        return self._next_page(number, wants_response)

    def _next_page(self, number: int, wants_response: bool = False) -> Answer:
        try:
            page = next(self._lists[number], None)
        except ApiError as error:
            del self._lists[number]
            return self._failed(error)
        if page is None:
            del self._lists[number]
            return {"over": True}, b""
        records = page.value or b"[" + b",".join(page.records) + b"]"
        head = {} if page.answer is None else _head(page.answer)
        following = {"pages": number, "nextPageParam": page.next, "tells": page.tells, "split": len(records)}
        content = page.answer.content if wants_response and page.tells and page.answer is not None else b""
        return {**head, **following}, records + content

    def _close_pages(self, number: int) -> Answer:
        self._lists.pop(number, None)
        return _NOTHING


_WITH_BODY: Final = frozenset({"batchSave", "batchUpdate", "batchDelete", "proxy", "paginate", "uncontrolledFetch"})


def _records(body: bytes) -> list[bytes]:
    return [bytes(raw) for raw in items_of(body)]


def _head(answer: ScriptAnswer) -> dict[str, Any]:
    return {
        "status": answer.status,
        "statusText": responses.get(answer.status, ""),
        "headers": dict(answer.headers),
        "url": answer.url.partition("?")[0],
    }


def _call(config: Mapping[str, Any], body: bytes) -> Call:
    """The request that a script described. Raises ConfigError for values of the wrong kind."""
    headers = config.get("headers") or {}
    params = config.get("params")
    if not isinstance(headers, Mapping) or not isinstance(params, Mapping | str | None):
        raise ConfigError("headers are an object, and params an object or text.")
    retry_on = config.get("retryOn") or ()
    return Call(
        str(config.get("method") or "GET").upper(),
        str(config.get("endpoint") or ""),
        params=params,
        data=_data(config.get("bodyKind"), body),
        headers=headers,
        retries=int(config.get("retries") or 0),
        retry_on=tuple(int(status) for status in retry_on),
        retry_header=header if isinstance(header := config.get("retryHeader"), Mapping) else {},
        base_url=str(config["baseUrlOverride"]) if config.get("baseUrlOverride") else None,
    )


def _data(kind: Any, body: bytes) -> Any:
    if kind is None:
        return None
    if kind == "json":
        return msgspec.json.decode(body)
    return body if kind == "bytes" else body.decode()
