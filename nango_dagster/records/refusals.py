"""Signs in an answer's body that the API refuses or fails, though the status says success."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping

from ..errors import RecordRejected
from .decoding import decode
from .document import Document, printable
from .raw_json import Malformed, parts_of, text_at

# False in one of these means failure, whatever stands beside it: Slack, Marketo.
_SUCCESS = ("ok", "success")
# All names below are in lower case, and are compared with the names of an answer in lower case.
# False, 0 or "false" in one of these means failure beside no records; true in one of the others, too.
_SUCCESS_FLAGS = (*_SUCCESS, "issuccess", "is_success", "issuccessful", "succeeded")
_FAILURE_FLAGS = ("haserror", "has_error", "haserrors", "has_errors", "iserror", "is_error")
_YES = (b"true", b"1", b'"1"', b'"true"', b'"True"')
_NO = (b"false", b"0", b'"0"', b'"false"', b'"False"')
# Beside no records, a nonzero number or a text in one of these means failure.
_ERROR_CODE = ("error_code", "errorcode", "errcode", "error_msg")
# One of these words as a status or as the whole message means failure, and so does a number that HTTP has for errors.
_CODES = ("code", "statuscode", "status_code", "response_code", "responsecode", "http_status", "httpstatus")
_RESULT_CODES = ("resultcode", "result_code", "returncode", "return_code")
_STATUS = frozenset(["status", "stat", "state", "response", "result", "message", "type", *_CODES, *_RESULT_CODES])
_FAILED = frozenset(
    [
        *("error", "errored", "fail", "failed", "failure", "notok", "not_ok", "nok", "ko", "false", "timeout"),
        *("denied", "unauthorized", "forbidden", "throttled", "unavailable", "invalid_request", "expired"),
    ]
)
_FAILED_ENDINGS = ("_error", "_denied", "_limit", "_exceeded")  # Google: REQUEST_DENIED, OVER_QUERY_LIMIT
# In a message beside no records; "No records found" is none of them.
_FAILURE_MESSAGE = re.compile(
    r"rate.?limit|too many requests|unauthori[sz]ed|forbidden|not authori[sz]ed|(access|permission|request) denied"
    r"|invalid (api |access )?(key|token|credential|session|signature)|(token|session|key|password) (has |is )?expired"
    r"|quota|throttl|internal (server )?error|timed? ?out|unavailable|maintenance|try again|something went wrong",
    re.IGNORECASE,
)
_FINE_MESSAGE = re.compile(
    r"\b(ok|okay|success\w*|done|succeeded|no (data|records?|results?|items?)|empty)\b", re.IGNORECASE
)
_FINE_CODES = frozenset([b"0", b"1", b"10000", b"20000"])  # and 200 to 299
# True in one of these means that the records are a part of the list, as after a time-out of the search.
_PARTIAL = (
    "incomplete_results",
    "timed_out",
    "partial_results",
    "partialResults",
    "is_partial",
    "isPartial",
    "partial",
)
_SHARDS = "_shards"
"""Elasticsearch and OpenSearch: the parts of an index; those that failed gave no records."""
# The fields of an object with one of these names tell of the answer, as those beside it.
_ABOUT = frozenset(
    [
        *("meta", "_meta", "metadata", "head", "header", "status", "response", "result"),
        *("response_status", "responsestatus", "response_header", "responseheader"),
    ]
)
# The fields, in lower case, of an object that is an error and no record: at least one mark, and nothing else beside.
_FLAG_MARKS = frozenset(_SUCCESS_FLAGS)
_TEXT_MARKS = frozenset(
    [
        "error",
        "errors",
        "fault",
        "exception",
        "error_code",
        "errorcode",
        "errcode",
        "error_msg",
        "error_message",
        "errormessage",
        "error_description",
    ]
)
_BESIDE_MARKS = frozenset(
    [
        "message",
        "msg",
        "detail",
        "details",
        "reason",
        "code",
        "status",
        "statuscode",
        "status_code",
        "documentation_url",
        "request_id",
        "requestid",
        "timestamp",
        "path",
        "fields",
    ]
)
_ERROR_BYTES = 10_000  # of the longest object that is looked at as an error
# A value in one of these beside an empty list means failure; beside records it may be a note.
_ERROR = ("error", "errors", "err", "fault", "exception", "error_message", "errormessage", "error_description")
_MESSAGE = ("message", "msg", "detail", "reason", "description", "title", "error", "error_message", "code")
_REMARKS = ("message", "msg", "detail", "note", "reason")
"""Texts that may tell of a failure. A title or a description is more often that of the list."""
_NOTHING = (b"", b"null", b"false", b'""', b"{}", b"[]", b"0")


def refusal(
    document: Document, *, has_records: bool, is_record: bool = False, ignored: Collection[str] = ()
) -> str | None:
    """The sentence for an answer whose body says that it is a failure, or None.

    `has_records` says whether there are records in the answer, `is_record` whether its own fields are those of a
    record or the records; `ignored` names the field that holds the records.

    >>> refusal(Document(b'{"ok": false, "error": "not_in_channel"}'), has_records=False)
    'the response says "ok": false: "not_in_channel".'
    >>> refusal(Document(b'{"error": "expired", "items": []}'), has_records=False)
    'the response has an error and no records: "expired".'
    """
    fields = document.fields
    if sentence := _whatever_beside_it(document, ignored):
        return sentence
    errors = bytes(fields.get("errors", b""))
    if "errors" not in ignored and errors[:1] == b"[" and errors not in _NOTHING and _at(errors, 0) is not None:
        beside = "records as well" if has_records else "no records"
        return f"the response has errors and {beside}; the first{_because(document)}."
    if has_records:
        return None
    values = {name: bytes(value).strip() for name, value in fields.items() if name not in ignored}
    if any(name.lower() in _ERROR and value not in _NOTHING for name, value in values.items()):
        return f"the response has an error and no records{_because(document)}."
    if is_record:
        return None
    about = [parts_of(value) for name, value in values.items() if name.lower() in _ABOUT and value[:1] == b"{"]
    for some in (values, *({name: bytes(text).strip() for name, text in fields.items()} for fields in about)):
        if sentence := _failed_by_message(some):
            return sentence
    for name, text in [*values.items(), *_fields_about_the_answer(values)]:
        if _is_failure(name.rpartition(".")[2].lower(), text):
            return f'the response says "{name}": {printable(text)}, and has no records{_because(document)}.'
    return None


def _whatever_beside_it(document: Document, ignored: Collection[str]) -> str | None:
    """The sentence for an answer that fails, or is only a part of the list, whatever records stand beside that."""
    names = (*_SUCCESS, *_PARTIAL, _SHARDS)
    values = {name: bytes(text) for name, text in document.fields.items() if name in names and name not in ignored}
    for name, text in values.items():
        if name in _SUCCESS and text.lower() in (b"false", b'"false"'):
            return f'the response says "{name}": false{_because(document)}.'
        if name in _PARTIAL and text == b"true":
            return f'the response says "{name}": true, so that its records are not the whole list.'
        if name == _SHARDS and (failed := _at(text, "failed") or b"0") not in _NOTHING:
            return (
                f'the response says "_shards.failed": {printable(failed)}, so that its records are not the whole list.'
            )
    return None


def refusal_around(text: bytes, list_name: str) -> str | None:
    """The sentence for an object around an empty list whose other fields say that the answer is a failure, or None.

    >>> refusal_around(b'{"items": [], "errors": ["expired"]}', "items")
    'the list is empty, and "errors" beside it says: "expired".'
    """
    for name, value in parts_of(text).items():
        field = bytes(value).strip()
        if name != list_name and name.lower() in (*_ERROR, *_SUCCESS_FLAGS) and _is_failure(name.lower(), field):
            return f'the list is empty, and "{name}" beside it says: {_reason(field) or printable(field)}.'
    return None


def _failed_by_message(values: Mapping[str, bytes]) -> str | None:
    """The sentence for an empty answer whose message tells of a failure, or whose code is none of success."""
    fields = {name.lower(): text for name, text in values.items()}
    texts = [text for name in _REMARKS if (text := fields.get(name, b""))[:1] == b'"']
    said_text = texts[0].decode(errors="replace") if texts else ""
    if _FAILURE_MESSAGE.search(said_text):
        return f"there are no records, and the response says {_quoted(texts[0])}."
    code = fields.get("code", b"").strip(b'"')
    is_fine = not code.isdigit() or code in _FINE_CODES or (len(code) == 3 and code[:1] == b"2")
    if is_fine or not texts or _FINE_MESSAGE.search(said_text):
        return None
    return f'the response says "code": {printable(fields["code"])}, and has no records: {_quoted(texts[0])}.'


def _fields_about_the_answer(values: Mapping[str, bytes]) -> Iterator[tuple[str, bytes]]:
    """The fields of an object beside the list that tells of the answer, with their paths."""
    for name, value in values.items():
        if name.lower() in _ABOUT and value[:1] == b"{":
            for inner_name, inner in parts_of(value).items():
                yield f"{name}.{inner_name}", bytes(inner).strip()


def _is_failure(name: str, text: bytes) -> bool:
    """Whether a field, whose name is in lower case, says beside no records that the answer is a failure."""
    if name in _ERROR:
        return text not in _NOTHING
    if name in _SUCCESS_FLAGS:
        return text in _NO
    if name in _FAILURE_FLAGS:
        return text in _YES
    if name in _ERROR_CODE:
        return text not in (*_NOTHING, b'"0"') and text[:1] not in (b"{", b"[")
    if name not in _STATUS:
        return False
    word = text.strip(b'"')
    is_http_error = len(word) == 3 and word.isdigit() and word[:1] in (b"4", b"5") and name != "message"
    is_no = text == b"false" and name not in ("code", "message", "type")
    said_word = word.decode(errors="replace").lower() if text[:1] == b'"' else ""
    is_failed = said_word in _FAILED or (name != "message" and said_word.endswith(_FAILED_ENDINGS))
    return is_http_error or is_no or is_failed


def is_error_object(text: bytes, *, marked: bool = True) -> bool:
    """Whether an object has the fields of an error alone. Without `marked`, a message is enough.

    >>> is_error_object(b'{"errorCode": "INVALID_SESSION", "message": "expired"}'), is_error_object(b'{"id": 1}')
    (True, False)
    >>> is_error_object(b'{"message": "slow"}'), is_error_object(b'{"message": "slow"}', marked=False)
    (False, True)
    """
    if len(text) > _ERROR_BYTES:
        return False
    values = _lower_case_fields(text)
    if not values or not values.keys() <= _FLAG_MARKS | _TEXT_MARKS | _BESIDE_MARKS:
        return False
    is_marked = any(
        (name in _FLAG_MARKS and value in _NO) or (name in _TEXT_MARKS and value not in _NOTHING)
        for name, value in values.items()
    )
    return is_marked or (not marked and values.get("message", b"") not in _NOTHING)


def _because(document: Document) -> str:
    reason = said(document)
    return f": {reason}" if reason else ""


def said(document: Document) -> str | None:
    """The message of an API's error, in quotes: the text at one of the usual places.

    >>> said(Document(b'{"errors": [{"message": "Throttled"}]}')), said(Document(b'{"fault": {"detail": "no"}}'))
    ('"Throttled"', '"no"')
    """
    try:
        fields = {name.lower(): text for name, text in document.fields.items()}
    except Malformed:
        return None
    for name in (*_ERROR, *_MESSAGE):
        text = bytes(fields.get(name, b""))
        if text not in _NOTHING and (reason := _reason(text)) is not None:
            return reason
    return None


def message(document: Document) -> str | None:
    """The sentence of an answer that has one in place of its list, in quotes."""
    fields = {name.lower(): text for name, text in document.fields.items()}
    texts = (bytes(fields.get(name, b"")) for name in _REMARKS)
    return next((_quoted(text) for text in texts if text[:1] == b'"' and text != b'""'), None)


def _reason(text: bytes, depth: int = 0) -> str | None:
    if text[:1] not in (b"{", b"["):
        return _quoted(text)
    if depth > 3:
        return None
    if text[:1] == b"[":
        inner = _at(text, 0)
        reason = None if inner is None or inner in _NOTHING else _reason(inner, depth + 1)
        return reason or (printable(text) if depth == 0 else None)
    fields = _lower_case_fields(text)
    for name in (*_MESSAGE, *_ERROR):
        inner = fields.get(name)
        if inner is not None and inner not in _NOTHING and (reason := _reason(inner, depth + 1)) is not None:
            return reason
    return f"{printable(text)}" if depth == 0 else None


def _lower_case_fields(text: bytes) -> dict[str, bytes]:
    """The fields of an object by their names in lower case; none where it cannot be read."""
    try:
        return {name.lower(): bytes(value).strip() for name, value in parts_of(text).items()}
    except Malformed:
        return {}


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
