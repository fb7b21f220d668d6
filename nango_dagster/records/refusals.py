"""Signs in an answer's body that the API refuses or fails, though the status says success."""

from __future__ import annotations

from collections.abc import Collection

from ..errors import RecordRejected
from .decoding import decode
from .document import Document, printable
from .raw_json import Malformed, text_at

# False in one of these means failure, whatever stands beside it: Slack, Marketo.
_SUCCESS = ("ok", "success")
# A value in one of these beside an empty list means failure; beside records it may be a note.
_ERROR = ("error", "errors", "fault", "Fault", "exception", "error_message", "errorMessage", "error_description")
_MESSAGE = ("message", "msg", "detail", "reason", "description", "title", "error", "error_message", "code")
_NOTHING = (b"", b"null", b"false", b'""', b"{}", b"[]", b"0")


def refusal(document: Document, *, has_records: bool, ignored: Collection[str] = ()) -> str | None:
    """The sentence for an answer whose body says that it is a failure, or None.

    `has_records` says whether there are records in the answer; `ignored` names the field that holds the records.

    >>> refusal(Document(b'{"ok": false, "error": "not_in_channel"}'), has_records=False)
    'the response says "ok": false: "not_in_channel".'
    >>> refusal(Document(b'{"error": "expired", "items": []}'), has_records=False)
    'the response has an error and no records: "expired".'
    """
    fields = document.fields
    for name in _SUCCESS:
        if name not in ignored and bytes(fields.get(name, b"")) == b"false":
            return f'the response says "{name}": false{_because(document)}.'
    errors = bytes(fields.get("errors", b""))
    if "errors" not in ignored and errors[:1] == b"[" and errors not in _NOTHING and _at(errors, 0) is not None:
        beside = "records as well" if has_records else "no records"
        return f"the response has errors and {beside}; the first{_because(document)}."
    if has_records:
        return None
    if any(name not in ignored and bytes(fields.get(name, b"")).strip() not in _NOTHING for name in _ERROR):
        return f"the response has an error and no records{_because(document)}."
    return None


def _because(document: Document) -> str:
    reason = said(document)
    return f": {reason}" if reason else ""


def said(document: Document) -> str | None:
    """What an API says about an error, in quotes: the text at one of the usual places.

    >>> said(Document(b'{"errors": [{"message": "Throttled"}]}')), said(Document(b'{"fault": {"detail": "no"}}'))
    ('"Throttled"', '"no"')
    """
    try:
        fields = document.fields
    except Malformed:
        return None
    for name in (*_ERROR, *_MESSAGE):
        text = bytes(fields.get(name, b""))
        if text not in _NOTHING and (reason := _reason(text)) is not None:
            return reason
    return None


def _reason(text: bytes, depth: int = 0) -> str | None:
    if text[:1] not in (b"{", b"["):
        return _quoted(text)
    if depth > 3:
        return None
    for step in (0,) if text[:1] == b"[" else (*_MESSAGE, *_ERROR):
        inner = _at(text, step)
        if inner is not None and inner not in _NOTHING and (reason := _reason(inner, depth + 1)) is not None:
            return reason
    return f"{printable(text)}" if depth == 0 else None


def _quoted(text: bytes) -> str:
    try:
        value = decode(text)
    except RecordRejected:
        return printable(text)
    return f'"{printable(value.encode(errors="replace"))}"' if isinstance(value, str) else printable(text)


def _at(text: bytes, step: int | str) -> bytes | None:
    try:
        return text_at(text, [step])
    except Malformed:
        return None
