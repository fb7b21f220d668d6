"""Nango's `paginate`: lists by cursor, link or offset, with the options and the semantics of Nango's scripts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

from ..errors import ApiError, PagingRepeats, ScriptError
from ..http import json_bytes, links, public_url
from ..paths import MISSING, put
from ..records import Document, described
from ..records.raw_json import NOT_STRICT, Malformed, items_of
from .calls import Call, ScriptAnswer

_KINDS: Final = ("cursor", "link", "offset")
SAME_PAGES: Final = 5
"""After so many equal pages in a row a list is taken for endless."""
_IN_BODY: Final = frozenset({"POST", "PUT", "PATCH"})


@dataclass(frozen=True)
class ScriptPage:
    """One page of a list that a script reads: each record as the JSON text that the API sent."""

    records: list[bytes]
    answer: ScriptAnswer | None = None
    next: str | int | float | None = None
    """The cursor, link or offset of the next page; None behind the last one."""
    value: bytes | None = None
    """The value at `response_path` of a list by link, if it is not a list; a TypeScript script gets it unchanged."""
    tells: bool = True
    """Whether `on_page` is called for it; not for the last page by offset."""


class Sender(Protocol):
    """Sends the calls of a list."""

    def __call__(self, call: Call, *, is_link: bool) -> ScriptAnswer:
        """The answer; `is_link` where the URL comes from an answer."""


@dataclass(frozen=True)
class Options:
    """The options of one list; those of a call replace the API's one by one."""

    options: Mapping[str, Any] = field(default_factory=dict)

    def text(self, name: str) -> str | None:
        """An option that is text."""
        value = self.options.get(name)
        return None if value is None else str(value)

    def needed(self, name: str, kind: str) -> str:
        """An option without which this kind of paging cannot work. Raises ScriptError where it is missing."""
        value = self.text(name)
        if not value:
            raise ScriptError(f"Param {name} is required for {kind} pagination.")
        return value

    @property
    def kind(self) -> str:
        """The kind of paging. Raises ScriptError where there is none."""
        if not self.options:
            raise ScriptError("There was no pagination configuration for this integration or configuration passed in.")
        kind = self.options.get("type")
        if not kind:
            raise ScriptError("Pagination type is required.")
        if str(kind).lower() not in _KINDS:
            raise ScriptError(
                f"Pagination type {kind} is not supported. Only cursor, link and offset pagination types are supported."
            )
        return str(kind).lower()

    @property
    def limit(self) -> int | None:
        """The page size."""
        value = self.options.get("limit")
        return None if value is None else int(value)


def pages(call: Call, options: Options, send: Sender) -> Iterator[ScriptPage]:
    """The pages of a list, each requested when the one before it was used.

    Raises ScriptError for options that do not fit, PagingRepeats where a request would be sent again, and ApiError.
    """
    kinds: dict[str, Callable[[_List], Iterator[ScriptPage]]] = {"cursor": _cursor, "link": _link, "offset": _offset}
    kind = options.kind
    in_body = options.options.get("in_body")
    reading = _List(call, options, send, call.method.upper() in _IN_BODY if in_body is None else bool(in_body))
    if options.limit is not None:
        reading.set(options.needed("limit_name_in_request", kind), options.limit)
    yield from kinds[kind](reading)


class _List:
    """The present call of a list."""

    def __init__(self, call: Call, options: Options, send: Sender, in_body: bool) -> None:
        self.call = call
        self.options = options
        self.is_link = False
        self.in_body = in_body
        self._send = send
        self._sent: set[bytes] = set()
        self._last: list[bytes] = []
        self._times = 0

    def set(self, name: str, value: str | int | float) -> None:
        """Put a value of paging into the body, where dots make objects, or into the query, where they do not."""
        if not self.in_body:
            self.call = self.call.with_param(name, value)
            return
        data = self.call.data or {}
        if not isinstance(data, Mapping):
            raise ScriptError(f"{name} belongs into the body, and data is a {type(data).__name__}; wanted an object.")
        self.call = replace(self.call, data=put(data, name, value))

    def send(self) -> tuple[ScriptAnswer, Document, bytes | None]:
        """The answer to the present call, its body, and the text at `response_path`; None where nothing is there."""
        call = self.call
        body = call.data.hex() if isinstance(call.data, bytes) else call.data
        sent = json_bytes([call.method, call.base_url, call.path, call.pairs, body])
        if sent in self._sent:
            raise PagingRepeats(
                f"paging repeats: {call.method.upper()} {public_url(call.path)} would be sent again; does the API know "
                "the name of the paging parameter?"
            )
        self._sent.add(sent)
        answer = self._send(call, is_link=self.is_link)
        document = Document(answer.content.strip())
        path = self.options.text("response_path")
        try:
            text = document.text if not path else document.text_at(path)
        except Malformed as reason:
            raise ApiError(f"the answer cannot be read: {reason}.") from None
        return answer, document, None if text in (b"null", b"") else text

    def page(self, text: bytes | None) -> list[bytes]:
        """The records of a page. Raises PagingRepeats where an API that ignores the paging sends the same again."""
        records = _records(text)
        self._times = self._times + 1 if records and records == self._last else 1
        self._last = records
        if self._times >= SAME_PAGES:
            raise PagingRepeats(
                f"paging repeats: {public_url(self.call.path)} answered {SAME_PAGES} times with the same records; does "
                "the API know the name of the paging parameter?"
            )
        return records


def _records(text: bytes | None) -> list[bytes]:
    """The items of the list; none where there is nothing. Raises ApiError for anything but a list."""
    if text is None:
        return []
    if text[:1] != b"[":
        raise ApiError(f"response_path holds {described(text)}; wanted a list of records.")
    try:
        return [bytes(raw) for raw in items_of(text)]
    except NOT_STRICT as error:
        raise ApiError(f"the list of records cannot be read: {error}.") from None


def _cursor(reading: _List) -> Iterator[ScriptPage]:
    path = reading.options.needed("cursor_path_in_response", "cursor")
    name = reading.options.needed("cursor_name_in_request", "cursor")
    while True:
        answer, document, text = reading.send()
        records = reading.page(text)
        if not records:
            return
        cursor = document.dig(path)
        is_text = isinstance(cursor, str) and cursor.strip() != ""
        is_number = not isinstance(cursor, bool | str) and cursor is not MISSING and cursor is not None
        following: Any = cursor.strip() if is_text else cursor
        if not (is_text or (is_number and not isinstance(cursor, dict | list))):
            following = None
        yield ScriptPage(records, answer, following)
        if following is None:
            return
        reading.set(name, following)


def _link(reading: _List) -> Iterator[ScriptPage]:
    options = reading.options
    relation = options.text("link_rel_in_response_header")
    path = options.text("link_path_in_response_body")
    if not relation and not path:
        raise ScriptError(
            "Either param link_rel_in_response_header or link_path_in_response_body is required for link pagination."
        )
    before: str | None = None
    while True:
        answer, document, text = reading.send()
        link = links(answer.headers.get("link", "")).get(relation.lower()) if relation else None
        if link is None and path:
            in_body = document.dig(path)
            link = in_body if isinstance(in_body, str) and in_body else None
        is_last = link is None or link == before
        is_list = text is None or text[:1] == b"["
        records = reading.page(text) if is_list else []
        yield ScriptPage(records, answer, None if is_last else link, None if is_list else text)
        if link is None or is_last:
            return
        before = link
        reading.call = replace(reading.call, endpoint=link, params=None)
        reading.is_link = True


def _offset(reading: _List) -> Iterator[ScriptPage]:
    options = reading.options
    name = options.needed("offset_name_in_request", "offset")
    offset = int(options.options.get("offset_start_value") or 0)
    by_page = options.options.get("offset_calculation_method") == "per-page"
    while True:
        reading.set(name, offset if reading.in_body else str(offset))
        answer, _, text = reading.send()
        records = reading.page(text)
        if not records:
            return
        offset += 1 if by_page else len(records)
        is_last = options.limit is not None and len(records) < options.limit
        yield ScriptPage(records, answer, None if is_last else offset, tells=not is_last)
        if is_last:
            return
