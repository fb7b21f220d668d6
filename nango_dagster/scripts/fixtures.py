"""Recorded answers beside scripts: the files and folders of Nango's templates, and the files of `dry-run --save`.

A file has the answers of the API by method and path under `api`, and the records and calls of the script under `nango`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

from ..errors import ConfigError
from ..http import Failure, Request, Response, json_bytes, looks_secret, public_json, query_of, redact
from .fixture_folders import ONLY_PAGE, document_of, is_fixture_folder

_KEPT_HEADERS: Final = frozenset({"content-type", "etag", "link", "location"})
_LONGEST_BODY: Final = 1000
_HASHED: Final = "sha1:"


@dataclass(frozen=True)
class RequestIdentity:
    """A request as a file tells it: the path behind the base URL, the query and the body, without secrets."""

    method: str
    path: str
    params: Mapping[str, str]
    data: str | None

    @classmethod
    def of(cls, request: Request, base_url: str | None) -> RequestIdentity:
        """The request that was sent to an API at a base URL.

        >>> RequestIdentity.of(Request("GET", "https://a.example/v1/items?page=2&api_key=k"), "https://a.example/v1")
        RequestIdentity(method='get', path='items', params={'page': '2'}, data=None)
        """
        params: dict[str, str] = {}
        for name, value in query_of(request.full_url):
            if not looks_secret(name):
                params[name] = f"{params[name]},{value}" if name in params else value
        url = request.full_url.partition("?")[0]
        base = (base_url or "").partition("?")[0].rstrip("/")
        path = url[len(base) :] if base and url.startswith(base) else "/" + url.partition("//")[2].partition("/")[2]
        data = None
        if request.has_body and request.body is not None:
            public = request.body if isinstance(request.body, bytes) else json_bytes(public_json(request.body))
            data = public.decode(errors="replace")
            if len(data) > _LONGEST_BODY:
                data = _HASHED + hashlib.sha1(data.encode(), usedforsecurity=False).hexdigest()
        return cls(request.method.lower(), unquote(path.strip("/")), params, data)

    def fits(self, recorded: Mapping[str, Any]) -> bool:
        """Whether a recorded request has this query and this body; what it does not tell fits everything."""
        expected = recorded.get("request") or {}
        if "params" in expected and _texts(expected["params"]) != dict(self.params):
            return False
        return "data" not in expected or expected["data"] is None or _same_json(expected["data"], self.data)


def _texts(params: Any) -> dict[str, str]:
    """A recorded query: an object, or pairs."""
    pairs = params.items() if isinstance(params, Mapping) else [tuple(pair) for pair in params or []]
    return {str(name): _text(value) for name, value in pairs if value is not None and not looks_secret(str(name))}


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(_text, value))
    return value if isinstance(value, str) else json.dumps(value)


def _same_json(recorded: Any, data: str | None) -> bool:
    if recorded == data:
        return True
    if data is None:
        return False
    if isinstance(recorded, str) and recorded.startswith(_HASHED):
        return recorded == _HASHED + hashlib.sha1(data.encode(), usedforsecurity=False).hexdigest()
    try:
        return bool((json.loads(recorded) if isinstance(recorded, str) else recorded) == json.loads(data))
    except ValueError:
        return False


@dataclass(frozen=True)
class Fixture:
    """The content of a file, or of a folder below `mocks`."""

    path: Path
    document: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> Fixture:
        """Read a file, or the folder of a sync below `mocks`. Raises ConfigError where it is none of these."""
        if path.is_dir():
            if not is_fixture_folder(path):
                raise ConfigError(f"{path}: it is no recorded folder; wanted mocks/SYNC with MODEL/batchSave.json.")
            return cls(path, document_of(path))
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path}: it cannot be read: {error}.") from None
        if not isinstance(document, dict) or not isinstance(document.get("nango"), dict):
            raise ConfigError(f'{path}: it has no "nango"; wanted a file that dry-run --save or Nango has written.')
        return cls(path, document)

    @property
    def nango(self) -> Mapping[str, Any]:
        """The calls of the script and what they gave."""
        calls: Mapping[str, Any] = self.document["nango"]
        return calls

    def answers(self, method: str) -> Mapping[str, Any]:
        """The answers to a method by path."""
        by_method = self.document.get("api") or {}
        answers = by_method.get(method) or by_method.get(method.upper()) or {}
        return {unquote(str(path).partition("?")[0].strip("/")): answer for path, answer in answers.items()}


class Replay:
    """Answers requests from a file; each recorded answer of a list is given once."""

    waits = False

    def __init__(self, fixture: Fixture, base_url: Callable[[], str | None]) -> None:
        self._fixture = fixture
        self._base_url = base_url
        self._used: dict[int, RequestIdentity] = {}
        """The first request of each answer that was given."""
        self.missing: str | None = None
        """The first request without an answer."""

    def answer(self, request: Request, send: Callable[[], Response | Failure]) -> Response | Failure:
        """The recorded answer; a failure where there is none."""
        identity = RequestIdentity.of(request, self._base_url())
        recorded = self._find(identity)
        if recorded is None:
            query = "&".join(f"{name}={value}" for name, value in identity.params.items())
            sentence = f"has no recorded answer: {identity.method.upper()} {identity.path}{'?' if query else ''}{query}"
            self.missing = self.missing or sentence
            return Failure(request, sentence)
        first = self._used.setdefault(id(recorded), identity)
        if recorded.get(ONLY_PAGE) and identity != first:
            recorded = {**recorded, "response": _without_items(recorded["response"])}
        return _response(recorded, request)

    def _find(self, identity: RequestIdentity) -> Mapping[str, Any] | None:
        candidates = self._candidates(identity)
        fitting = [recorded for recorded in candidates if identity.fits(recorded)]
        unused = [recorded for recorded in fitting if id(recorded) not in self._used]
        if unused or fitting:
            return (unused or fitting)[0]
        # The only answer of a path may have been recorded for another day.
        if len(candidates) == 1 and id(candidates[0]) not in self._used:
            return candidates[0]
        return None

    def _candidates(self, identity: RequestIdentity) -> list[Mapping[str, Any]]:
        answers = self._fixture.answers(identity.method)
        answer = answers.get(identity.path)
        if answer is None:  # recorded with the base URL's own path, or without it
            longer = [
                path for path in answers if path.endswith(f"/{identity.path}") or identity.path.endswith(f"/{path}")
            ]
            answer = answers[longer[0]] if len(longer) == 1 and identity.path and longer[0] else []
        return [answer] if isinstance(answer, Mapping) else [item for item in answer if isinstance(item, Mapping)]


def _without_items(body: Any) -> Any:
    """The page that follows the only page of a list: the same members, and no items.

    >>> _without_items({"results": [{"id": 1}], "page": {"next": "c2", "errors": []}})
    {'results': [], 'page': {'next': 'c2', 'errors': []}}
    """
    if isinstance(body, Mapping):
        return {name: _without_items(value) for name, value in body.items()}
    return [] if isinstance(body, list) else body


def _response(recorded: Mapping[str, Any], request: Request) -> Response:
    body = recorded.get("response")
    content = _recorded_bytes(body)
    recorded_headers = {str(name): str(value) for name, value in (recorded.get("headers") or {}).items()}
    headers = {name.title(): value for name, value in recorded_headers.items() if name.lower() in _KEPT_HEADERS}
    headers.setdefault("Content-Type", "text/plain" if isinstance(body, str) else "application/json")
    return Response(int(recorded.get("status") or 200), headers, content, request.full_url)


def _recorded_bytes(body: Any) -> bytes:
    """The bytes of a recorded answer: JSON, a text, none, or binary data as Node writes a Buffer into JSON.

    >>> _recorded_bytes({"type": "Buffer", "data": [80, 75]})
    b'PK'
    """
    if isinstance(body, Mapping) and body.keys() == {"type", "data"} and body["type"] == "Buffer":
        return bytes(body["data"])
    return body.encode() if isinstance(body, str) else b"" if body is None else json_bytes(body)


class Recorder:
    """Records requests and answers while they go to the network; secrets are starred."""

    waits = True

    def __init__(
        self, base_url: Callable[[], str | None], secrets: Callable[[], Sequence[str]], ignored: Collection[str] = ()
    ) -> None:
        """`ignored` are query parameters of the integration, which a replay does not send."""
        self._base_url = base_url
        self._secrets = secrets
        self._ignored = frozenset(ignored)
        self._api: dict[str, dict[str, list[dict[str, Any]]]] = {}

    def answer(self, request: Request, send: Callable[[], Response | Failure]) -> Response | Failure:
        """The network's answer."""
        response = send()
        if isinstance(response, Response):
            identity = RequestIdentity.of(request, self._base_url())
            params = {name: value for name, value in identity.params.items() if name not in self._ignored}
            identity = replace(identity, params=params)
            recorded = {
                "request": {"params": dict(identity.params), **({"data": identity.data} if identity.data else {})},
                "response": self._body(response),
                "status": response.status,
                "headers": {
                    name.lower(): redact(value, self._secrets())
                    for name, value in response.headers.items()
                    if name.lower() in _KEPT_HEADERS
                },
                "hash": _hash(identity),
            }
            self._api.setdefault(identity.method, {}).setdefault(identity.path, []).append(recorded)
        return response

    def document(self) -> dict[str, Any]:
        """The answers by method and path; a single one stands alone."""
        return {
            method: {path: several[0] if len(several) == 1 else several for path, several in answers.items()}
            for method, answers in self._api.items()
        }

    def _body(self, response: Response) -> Any:
        try:
            text = redact(response.content.decode(), self._secrets())
        except UnicodeDecodeError:
            return {"type": "Buffer", "data": list(response.content)}
        try:
            return json.loads(text)
        except ValueError:
            return text


def _hash(identity: RequestIdentity) -> str:
    parts = {
        "method": identity.method,
        "endpoint": identity.path,
        "params": sorted(identity.params.items()),
        "headers": [],
    }
    text = json.dumps({**parts, **({"data": identity.data} if identity.data else {})}, separators=(",", ":"))
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


# --- comparing --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Results:
    """The records that a script saved, updated and deleted, by model."""

    saved: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    updated: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    deleted: Mapping[str, Sequence[str]] = field(default_factory=dict)
    checkpoint: Mapping[str, Any] | None = None

    def differences(self, nango: Mapping[str, Any]) -> Iterator[str]:
        """A sentence for each difference to what a file says."""
        for name, records in (("batchSave", self.saved), ("batchUpdate", self.updated)):
            if name in nango or name == "batchSave":
                yield from _compared(name, _by_model(nango.get(name)), records)
        if "batchDelete" in nango:
            recorded = {
                model: sorted(str(record.get("id")) for record in records)
                for model, records in _by_model(nango["batchDelete"]).items()
            }
            actual = {model: sorted(keys) for model, keys in self.deleted.items() if keys}
            if recorded != actual:
                yield f"batchDelete: deleted {actual or 'nothing'}; recorded {recorded or 'nothing'}"
        if "saveCheckpoint" in nango and nango["saveCheckpoint"] != self.checkpoint:
            yield f"saveCheckpoint: the checkpoint is {self.checkpoint}; recorded {nango['saveCheckpoint']}"


def _by_model(recorded: Any) -> dict[str, list[Any]]:
    models = recorded if isinstance(recorded, Mapping) else {}
    return {model: records for model, records in models.items() if records}


def _compared(name: str, recorded: Mapping[str, Sequence[Any]], actual: Mapping[str, Sequence[Any]]) -> Iterator[str]:
    for model in dict.fromkeys([*recorded, *(model for model, records in actual.items() if records)]):
        expected_records, actual_records = list(recorded.get(model, ())), list(actual.get(model, ()))
        if expected_records == actual_records:
            continue
        if len(expected_records) != len(actual_records):
            yield f"{name} {model}: {len(actual_records):,} records; recorded {len(expected_records):,}"
        for number, (record, expected) in enumerate(zip(actual_records, expected_records, strict=False)):
            if record != expected:
                yield f"{name} {model}: record {number}: {_difference(record, expected)}"
                break


def _difference(actual: Any, recorded: Any) -> str:
    if isinstance(actual, Mapping) and isinstance(recorded, Mapping):
        for name in [*recorded, *(name for name in actual if name not in recorded)]:
            if actual.get(name) != recorded.get(name) or (name in actual) != (name in recorded):
                return (
                    f"{name} is {json.dumps(actual.get(name))[:200]}; recorded {json.dumps(recorded.get(name))[:200]}"
                )
    return f"it is {json.dumps(actual)[:200]}; recorded {json.dumps(recorded)[:200]}"
