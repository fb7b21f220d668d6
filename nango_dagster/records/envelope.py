"""A response body becomes records: each one's own JSON text.

Nothing is decoded that need not be. A body is cut into the records' own bytes; their hash alone tells most of
them unchanged. A page that holds one unreadable record is cut again by a tolerant splitter, so that this record
costs only itself. An answer that is not the list is an error, never a record.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import Any, Literal

from ..bodies import MAX_MEMBERS
from ..errors import ApiError, ConfigError, RecordRejected
from ..paths import MISSING, is_query, is_singular, matches
from .decoding import decode, encode
from .document import Document, described, listed
from .raw_json import NOT_STRICT, Fields, Malformed, items_of, parts_of, split, text_at, with_fields
from .refusals import is_error_object, message, refusal, refusal_around, said

_PLAIN = re.compile(r"[A-Za-z_][\w.]*")
_FIRST_BYTE = itemgetter(0)
_SHORTEST_OBJECT = 6  # bytes of one with a field: {"":0}
_EMPTY_HINT = "If that is how the API writes an empty list, set missing_is_empty: true."


@dataclass(frozen=True)
class Rejected:
    """A record that cannot be stored: its place in the page, counted from 0, and why."""

    position: int
    reason: str


@dataclass(frozen=True)
class Shape:
    """The place of the records in an answer, and their form: the fields of a sync."""

    response_path: str | None = None
    records: Literal["list", "object", "values", "plain"] = "list"
    record_key_field: str | None = None
    missing_is_empty: bool = False
    max_records: int = MAX_MEMBERS
    """A page with more records is refused."""

    @property
    def place(self) -> str:
        """The place of the records, for a sentence."""
        return "the root of the response" if self.response_path is None else f'response_path "{self.response_path}"'


@dataclass
class Envelope:
    """One response: the records in it, and whatever else paging wants to read.

    >>> page = read(b'{"results": [{"id": 1}, {"id": 2}], "next": null}')
    >>> page.records
    [b'{"id": 1}', b'{"id": 2}']
    >>> page.dig("next") is None, page.dig_last("id")
    (True, 2)
    """

    records: list[bytes]
    rejected: list[Rejected] = field(default_factory=list)
    document: Document = field(default_factory=lambda: Document(b""))

    def dig(self, path: str) -> Any:
        """The value at `path` in the response, or MISSING. Raises ApiError when it cannot be read."""
        return self.document.dig(path)

    @property
    def last_rejected(self) -> str | None:
        """Why the last record of the page was rejected; None where it was not."""
        last = max(self.rejected, key=lambda rejected: rejected.position, default=None)
        is_last = last is not None and last.position == len(self.records) + len(self.rejected) - 1
        return last.reason if last is not None and is_last else None

    def dig_last(self, path: str) -> Any:
        """The value at `path` in the last record, or MISSING. Raises ApiError when it cannot be read."""
        return Document(self.records[-1]).dig(path) if self.records else MISSING


def read(body: bytes, shape: Shape = Shape(), *, trusted: bool = False) -> Envelope:
    """Cut `body` into records: those at `response_path`, else a list at the root, else the one at "results".

    A record's own text is not looked into: whether it is valid UTF-8 is found out by its reader. `trusted` says that a
    rule of the sync calls the answer a page of the list, so that signs of a refusal in it do not count. Raises ApiError
    for an answer that is no list of records, with what is there in its place.
    """
    document = Document(body.removeprefix(b"\xef\xbb\xbf").strip(), shape.response_path or "results")
    _check_root(document, shape)
    try:
        text = _found(document, shape)
        if shape.response_path is None and text is not document.text:
            shape = replace(shape, response_path="results")
        envelope = _envelope(text, document, shape)
        if not trusted:
            _refuse_failure(document, shape, envelope)
        return envelope
    except Malformed as reason:
        sentence = f"the response is no complete JSON: {reason}."
    raise ApiError(sentence)


def _check_root(document: Document, shape: Shape) -> None:
    text = document.text
    if text[:1] in (b"{", b"[") or (text == b"null" and shape.response_path is None and _null_is_empty(shape)):
        return
    raise ApiError(_no_json(text))


def _null_is_empty(shape: Shape) -> bool:
    return shape.missing_is_empty or shape.records == "values"


def _found(document: Document, shape: Shape) -> bytes:
    """The text of the records' place. Raises ApiError where nothing is there."""
    path = shape.response_path
    if path is not None and is_query(path):
        return _found_by_query(document, path, shape)
    if path is None:
        if document.text[:1] != b"{" or shape.records in ("object", "values"):
            return document.text
        path = "results"
    text = document.text_at(path)
    if text is not None:
        return text
    if shape.missing_is_empty and shape.response_path is not None and document.parent_of(path) is not None:
        return b"null"
    raise ApiError(refusal(document, has_records=False) or _nothing_there(document, shape))


def _found_by_query(document: Document, query: str, shape: Shape) -> bytes:
    """The value of a query that leads to one value, or a list of the values that a query finds."""
    try:
        values = matches(document.value, query)
        if not is_singular(query) and not (len(values) == 1 and isinstance(values[0], list)):
            return encode(values)
        if values:
            return encode(values[0])
    except (RecordRejected, ConfigError) as reason:
        sentence = f"the records at {shape.place} cannot be read: {reason}."
    else:
        if shape.missing_is_empty:
            return b"null"
        sentence = refusal(document, has_records=False) or _nothing_there(document, shape)
    raise ApiError(sentence)


# --- records of each shape ----------------------------------------------------------------------------------------


def _envelope(text: bytes, document: Document, shape: Shape) -> Envelope:
    if text == b"null":
        return Envelope([], [], document)
    if shape.records == "object" and text[:1] != b"[":
        return _one_object(text, document, shape)
    if shape.records == "values" and text[:1] == b"{":
        return _values(text, document, shape)
    if text[:1] != b"[":
        failure = refusal(document, has_records=False)
        # A plain value in place of the list may be what gives the reason, as Etherscan's `result` does.
        has_reason = failure is None or text[:1] != b"{"
        raise ApiError(" ".join(filter(None, [failure, _no_list(text, shape) if has_reason else None])))
    try:
        texts = [bytes(raw) for raw in items_of(text, shape.max_records)]
    except NOT_STRICT:
        return _tolerant(text, document, shape)
    return _items(texts, document, shape)


def _items(texts: list[bytes], document: Document, shape: Shape) -> Envelope:
    """The items of a list, each as a record."""
    if shape.records == "list" and (
        not texts or (min(map(len, texts)) >= _SHORTEST_OBJECT and set(map(_FIRST_BYTE, texts)) == {ord("{")})
    ):
        return Envelope(texts, [], document)
    if shape.records == "plain":
        return Envelope([b'{"value":' + text + b"}" for text in texts if text != b"null"], [], document)
    keyed: list[tuple[str, bytes]] = [(str(index), text) for index, text in enumerate(texts)]
    return _objects(keyed, document, shape)


def _values(text: bytes, document: Document, shape: Shape) -> Envelope:
    """The values of an object, each as a record."""
    keyed = [(key, bytes(raw)) for key, raw in parts_of(text).items()]
    return _objects(keyed, document, shape)


def _objects(keyed: list[tuple[str, bytes]], document: Document, shape: Shape) -> Envelope:
    """The objects among values; a null is a hole with `records: values`, and everything else is rejected."""
    page = Envelope([], [], document)
    holes = 0
    for position, (key, text) in enumerate(keyed):
        if text[:1] == b"{" and parts_of(text):
            own_key = shape.record_key_field
            page.records.append(text if own_key is None else with_fields(text, {own_key: json.dumps(key).encode()}))
        elif text == b"null" and shape.records == "values":
            holes += 1
        else:
            page.rejected.append(
                Rejected(position, f"it is {described(text)}; wanted an object with fields{_hint(text)}")
            )
    if keyed and not page.records and holes < len(keyed):
        sentence = refusal(document, has_records=False)
        raise ApiError(sentence or _no_objects([text for _, text in keyed], shape))
    return page


def _one_object(text: bytes, document: Document, shape: Shape) -> Envelope:
    if text[:1] != b"{" or not parts_of(text):
        sentence = f"{shape.place} holds {described(text)}; wanted one object, as records: object says."
        raise ApiError(refusal(document, has_records=False) or sentence)
    return Envelope([text], [], document)


def _tolerant(text: bytes, document: Document, shape: Shape) -> Envelope:
    """The items of a list that holds something unreadable: each by itself, and the unreadable ones rejected."""
    good: dict[int, bytes] = {}
    rejected: list[Rejected] = []
    for position, item in enumerate(split(text)):
        try:
            decode(item)
            good[position] = item
        except RecordRejected as reason:
            rejected.append(Rejected(position, str(reason)))
    page = _items(list(good.values()), document, shape) if good else Envelope([], [], document)
    places = list(good)
    others = [Rejected(places[rejected_record.position], rejected_record.reason) for rejected_record in page.rejected]
    return Envelope(
        page.records, sorted([*rejected, *others], key=lambda rejected_record: rejected_record.position), document
    )


def _refuse_failure(document: Document, shape: Shape, envelope: Envelope) -> None:
    """Raise ApiError where the body says that the answer is a failure, whatever is at the records' place."""
    is_root = shape.response_path is None and shape.records in ("object", "values")
    has_records = bool(envelope.records or envelope.rejected) and not is_root
    first = "results" if shape.response_path is None else shape.response_path
    ignored = () if document.text[:1] != b"{" or is_query(first) else (str(document.steps(first)[0]),)
    is_record = is_root and bool(envelope.records)
    sentence = refusal(document, has_records=has_records, is_record=is_record, ignored=ignored)
    if sentence is None and envelope.records:
        sentence = _error_in_place_of_records(envelope.records, shape)
    if sentence is None and not envelope.records and not envelope.rejected:
        sentence = _doubtful_empty(document, shape) or _refusal_beside(document, shape)
    if sentence is not None:
        raise ApiError(f"{sentence} If it is a good answer, a rule in responses says so: action: list.")


def _error_in_place_of_records(records: list[bytes], shape: Shape) -> str | None:
    """The sentence for a list that holds an error alone, or ends with one as an export that was cut off does."""
    last = records[-1]
    if not is_error_object(last, marked=shape.records != "object"):
        return None
    if len(records) > 1 and is_error_object(records[0], marked=False):  # a list of errors, or a log
        return None
    reason = said(Document(last))
    where = f"{shape.place} holds" if len(records) == 1 else f"the list at {shape.place} ends with"
    return f"{where} an error and no record: {reason or described(last)}."


def _doubtful_empty(document: Document, shape: Shape) -> str | None:
    """A message beside a null, or in place of a list's key, is an error as likely as an empty list."""
    if document.text[:1] != b"{" or (shape.response_path is not None and is_query(shape.response_path)):
        return None
    text = document.text_at(shape.response_path or "results")
    if text == b"null" and not _null_is_empty(shape) and (reason := said(document)):
        return f"{shape.place} holds null, and the response says {reason}. {_EMPTY_HINT}"
    if text is None and shape.missing_is_empty and (reason := message(document)):
        return f"nothing at {shape.place}, and the response says {reason}; an empty list is one without a message."
    return None


def _refusal_beside(document: Document, shape: Shape) -> str | None:
    """The sentence for a failure that stands beside an empty list deeper in the answer, as `data.errors`."""
    if is_query(shape.response_path or ""):
        return None
    steps = document.steps(shape.response_path or "results")
    for depth in range(1, len(steps)):
        around = text_at(document.text, steps[:depth])
        if around is not None and around[:1] == b"{" and (sentence := refusal_around(around, str(steps[depth]))):
            return sentence
    return None


# --- sentences ----------------------------------------------------------------------------------------------------


def _no_list(text: bytes, shape: Shape) -> str:
    sentence = f"{shape.place} holds {described(text)}; wanted a list of records."
    if text[:1] != b"{":
        return sentence
    inner = [bytes(raw) for raw in parts_of(text).values()]
    if inner and all(text[:1] == b"{" for text in inner):
        return f"{sentence} It is an object of {len(inner):,} objects; if they are the records, set records: values."
    return f"{sentence} If the object is the one record, set records: object." if inner else sentence


def _no_objects(texts: list[bytes], shape: Shape) -> str:
    first = next((text for text in texts if text != b"null"), b"null")
    sentence = f"{shape.place} holds no objects; the first value is {described(first)}."
    hint = _hint(first, " If these are the records, set ")
    return f"{sentence}{hint}." if hint else sentence


def _hint(text: bytes, before: str = ", or ") -> str:
    """The field that makes a record of such an item."""
    if text == b"null":
        return f"{before}records: values, which leaves nulls out"
    return f"{before}records: plain" if text[:1] != b"{" else ""


def _nothing_there(document: Document, shape: Shape) -> str:
    path = shape.response_path
    if path is None:
        have = listed(document.fields) or "an empty object there"
        lists = _paths_of_lists((), document.fields)
        hint = f"Set response_path{f': {lists[0]}' if lists else ''}, or records: object or values."
        return f'no records: response_path is not set and there is no "results"; the response has {have}. {hint}'
    if is_query(path):
        return f"nothing at {shape.place}; the response has {listed(document.fields) or described(document.text)}."
    deepest, steps = document.text, list(document.steps(path))
    for number, step in enumerate(steps):
        inner = text_at(deepest, [step])
        if inner is None:
            steps = steps[:number]
            break
        deepest = inner
    fields = parts_of(deepest) if deepest[:1] == b"{" else {}
    have = listed(fields) or f"{described(deepest)} there"
    lists = _paths_of_lists(steps, fields)
    hint = f"If the records are there, set response_path: {lists[0]}. " if lists else ""
    return f"nothing at {shape.place}; the response has {have}. {hint}{_EMPTY_HINT}"


def _paths_of_lists(steps: Sequence[object], fields: Fields) -> list[str]:
    """The paths of the lists among the fields of the object at `steps`; those that need no quotes."""
    names = [name for name, text in fields.items() if bytes(text)[:1] == b"["]
    return [path for name in names if _PLAIN.fullmatch(path := ".".join([*map(str, steps), name]))]


def fields_of(record: bytes) -> str:
    """The names of a record's fields, for a sentence.

    >>> fields_of(b'{"id": 7, "name": "x"}'), fields_of(b"7")
    ('"id", "name"', 'no fields')
    """
    try:
        return (listed(parts_of(record)) if record[:1] == b"{" else "") or "no fields"
    except Malformed:
        return "no fields"


def _no_json(text: bytes) -> str:
    if not text:
        return "the response is empty; wanted JSON."
    if text[:1] == b"<":
        return "the response is HTML or XML; wanted JSON."
    try:
        decode(text)
    except RecordRejected:
        return "the response is no JSON object or list."
    hint = f" {_EMPTY_HINT}" if text == b"null" else ""
    return f"the response is {described(text)}; wanted a JSON object or list.{hint}"
