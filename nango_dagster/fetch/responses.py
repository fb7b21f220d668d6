"""The meaning of an answer: by the first rule of the sync's `responses` that fits, else by its status."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Final

from .. import clock
from ..bodies import BodyLimits, json_text
from ..config import ResponseRule, Sync
from ..config.responses import Action
from ..errors import ApiError
from ..http import Response, Verdict, asked_wait, is_rate_limited, query_text, wait_of
from ..http.verdicts import phrase
from ..paths import MISSING
from ..records import Document, described, encode, said

_BEYOND_THE_END: Final = frozenset({400, 404, 410, 416, 422})
"""The statuses with which some APIs answer a page number or an offset beyond the end."""
_TEXT_MATCHED: Final = 10_000  # characters of a value that a regular expression looks at


@dataclass(frozen=True)
class Meaning:
    """The meaning of an answer, its reason, and the wait before a retry."""

    action: Action
    rule: str = ""
    """The rule or the default that decided; empty for an ordinary 200."""
    sentence: str = ""
    wait: float | None = None
    hint: str = ""

    @property
    def verdict(self) -> Verdict:
        """The meaning as the HTTP client takes it: `list`, `empty`, `end` and `skip` are the fetch's to act on."""
        if self.action in ("retry", "refresh_credentials", "fail"):
            return Verdict(self.action, self.sentence, self.wait, self.hint)
        return Verdict("accept")


@dataclass(frozen=True)
class Position:
    """The place of a request in the list, as far as the meaning of its answer depends on it."""

    number: int = 1
    is_numbered: bool = False
    """Whether pages are numbered, so that a status may say that there is no such page."""
    is_counted: bool = False
    """Whether pages or records are counted, so that a request may lead beyond the end."""
    is_last: bool = False
    """Whether the page before said that it was the last one."""
    is_range: bool = False
    """Whether the cursor goes to the Range header, to which 206 and 416 are the ordinary answers (RFC 9110)."""


def meaning_of(sync: Sync, response: Response, position: Position) -> Meaning | None:
    """The meaning of an answer; None where the HTTP client knows: 304, and 4xx and 5xx without a rule.

    The first rule that fits wins. Without one, only 200 carries a page of the list.
    """
    looks_inside = response.status >= 400 or any(rule.path for rule in sync.responses)
    document = _document(sync, response) if looks_inside else None
    for number, rule in enumerate(sync.responses):
        if _fits(rule, response, document):
            return _by_rule(f"responses[{number}] ({rule})", rule, response, document or _document(sync, response))
    return _by_status(response, document, position)


def _document(sync: Sync, response: Response) -> Document:
    """The body as JSON; empty where it is none."""
    try:
        return Document(json_text(response, sync.format, BodyLimits(sync.max_page_bytes, sync.max_page_records)))
    except ApiError:
        return Document(b"")


# --- rules --------------------------------------------------------------------------------------------------------


def _fits(rule: ResponseRule, response: Response, document: Document | None) -> bool:
    if rule.status is not None and response.status not in rule.status:
        return False
    if rule.header is None and rule.path is None:
        return True
    value = _dig(document, rule.path) if rule.path is not None else response.headers.get(rule.header or "")
    is_there = value is not MISSING and value is not None
    if rule.exists or rule.missing:
        return is_there if rule.exists else not is_there
    if not is_there:
        return False
    text = query_text(value)
    if rule.equals is not None:
        return text in map(query_text, rule.equals)
    return re.search(rule.matches or "", text[:_TEXT_MATCHED]) is not None


def _dig(document: Document | None, path: str | None) -> Any:
    """The value at a path; MISSING also where the answer is no JSON."""
    if path is None or document is None or document.text[:1] not in (b"{", b"["):
        return MISSING
    try:
        return document.dig(path)
    except ApiError:
        return MISSING


def _by_rule(name: str, rule: ResponseRule, response: Response, document: Document) -> Meaning:
    reason = _dig(document, rule.message_path)
    quoted = said(document) if reason is MISSING or reason is None else described(encode(reason))
    quoted = f": {quoted.removeprefix('the text ')}" if quoted else ""
    sentence = f"answered {phrase(response.status)}{quoted}, read as {rule.action} by {name}"
    return Meaning(rule.action, name, sentence, _wait(rule, response, document))


def _wait(rule: ResponseRule, response: Response, document: Document) -> float | None:
    if rule.wait is not None:
        return rule.wait
    value = response.headers.get(rule.wait_header) if rule.wait_header else _dig(document, rule.wait_path)
    return None if value is MISSING or value is None else wait_of(value, _now())


def _now() -> datetime:
    return clock.now().astimezone(timezone.utc)


# --- without a rule -----------------------------------------------------------------------------------------------


def _by_status(response: Response, document: Document | None, position: Position) -> Meaning | None:
    status = response.status
    if status == 200 or (status == 206 and position.is_range):
        return Meaning("list")
    if status == 416 and position.is_range and position.number > 1:
        return Meaning("end", "416 after a page that a Range asked for")
    if _is_past_the_last_page(status, document, position):
        return Meaning("end", f"{status} after the last page")
    if 200 <= status < 300:
        answered = f"answered {phrase(status)}"
        if status == 202:
            wait = asked_wait(response.headers)
            return Meaning("retry", "202 is retried", f"{answered}: the list is not ready yet", wait)
        rule = "empty" if status in (204, 205) else "list"
        means = "an empty list" if rule == "empty" else "the whole list"
        hint = f"if that is {means}, add to responses: {{status: {status}, action: {rule}}}"
        return Meaning("fail", "only 200 carries the list", f"{answered}, which is no list; {hint}")
    if (
        status in _BEYOND_THE_END
        and position.is_counted
        and position.number > 1
        and not is_rate_limited(response.headers)
    ):
        rule = f"{{status: {status}, action: end}}"
        return Meaning("fail", hint=f"; if that is the answer after the last page, add to responses: {rule}")
    return None


def _is_past_the_last_page(status: int, document: Document | None, position: Position) -> bool:
    """Whether a 404 or 400 says that a page number is beyond the end, as Django REST framework and WordPress do.

    Django answers 404 with the detail "Invalid page.", in the language of the request; its last page has `next: null`.
    WordPress answers 400 with a code that ends in `invalid_page_number`. Any other 404 is an error: an API that fails
    in the middle must not end the list.
    """
    if not position.is_numbered or position.number == 1 or status not in (400, 404):
        return False
    code = _dig(document, "code")
    if isinstance(code, str) and code.endswith("invalid_page_number"):
        return True
    detail = _dig(document, "detail")
    is_invalid_page = isinstance(detail, str) and detail.lower().startswith("invalid page")
    return status == 404 and (position.is_last or is_invalid_page)
