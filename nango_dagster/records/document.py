"""One answer as a JSON text, of which a value is decoded only when it is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..errors import ApiError, ConfigError, RecordRejected
from ..paths import MISSING, Step, is_query, matches, parse
from .decoding import decode
from .raw_json import Fields, Malformed, parts_of, text_at

LONGEST_QUOTE = 200  # characters of a value in a sentence
LISTED = 20  # names of fields in a sentence


@dataclass(frozen=True)
class Document:
    """The JSON text of an answer, without white space around it.

    >>> document = Document(b'{"results": [], "paging": {"next": "c2"}}')
    >>> document.dig("paging.next"), document.dig("paging.last")
    ('c2', MISSING)
    """

    text: bytes
    likely_path: str = "results"
    """The path to the value that is most of the text, such as the records; a large text is checked faster by it."""

    @cached_property
    def fields(self) -> Fields:
        """The fields of an object as texts; none where the text is no object. Raises Malformed."""
        if self.text[:1] != b"{":
            return {}
        likely = None if is_query(self.likely_path) else str(parse(self.likely_path)[0])
        return parts_of(self.text, likely)

    @cached_property
    def value(self) -> Any:
        """The whole answer, decoded for a query. Raises RecordRejected where that is impossible."""
        return decode(self.text)

    def dig(self, path: str) -> Any:
        """The value at a path, or MISSING. Raises ApiError where the value cannot be read."""
        try:
            if is_query(path):
                return next(iter(matches(self.value, path)), MISSING)
            text = self.text_at(path)
            return MISSING if text is None else decode(text)
        except (RecordRejected, Malformed, ConfigError) as reason:
            sentence = f'the value at "{path}" in the response cannot be read: {reason}.'
        raise ApiError(sentence)

    def text_at(self, path: str) -> bytes | None:
        """The text of the value at a dotted path, or None. Raises Malformed where the way to it cannot be read."""
        steps = self.steps(path)
        if self.text[:1] == b"[":
            return text_at(self.text, steps)
        first, *rest = steps
        text = self.fields.get(str(first))
        return None if text is None else text_at(bytes(text), rest)

    def steps(self, path: str) -> Sequence[Step]:
        """The steps of a dotted path; a field whose name is the whole path wins."""
        return (path,) if path in self.fields else parse(path)

    def parent_of(self, path: str) -> str | None:
        """The surroundings of a path without a value, for a sentence: 'has "count", "next"' where there is an object.

        >>> Document(b'{"paging": {"count": 7}}').parent_of("paging.next")
        '"count"'
        """
        return self.names_at(self.steps(path)[:-1])

    def names_at(self, steps: Sequence[Step]) -> str | None:
        """The names of the fields of the object at these steps, for a sentence; None where there is no object."""
        try:
            text = text_at(self.text, steps)
            return listed(parts_of(text)) if text is not None and text[:1] == b"{" else None
        except Malformed:
            return None


def listed(fields: Fields) -> str:
    """The names of fields for a sentence, in quotes; empty where there are none."""
    return ", ".join(f'"{name}"' for name in list(fields)[:LISTED])


def described(text: bytes | None) -> str:
    """A JSON value in the words of a sentence; a plain value is quoted.

    >>> [described(text) for text in (b'"limit reached"', b"false", b"{}", b'{"a": 1}', b"[1, 2]", None)]
    ['the text "limit reached"', 'false', 'an empty object', 'an object with "a"', 'a list of 2', 'nothing']
    """
    if text is None:
        return "nothing"
    if text[:1] == b"{":
        names = _names(text)
        return f"an object with {names}" if names else "an empty object"
    if text[:1] == b"[":
        return f"a list of {_count(text):,}"
    kind = {b'"': "the text ", b"n": "", b"t": "", b"f": ""}.get(text[:1], "the number ")
    return f"{kind}{printable(text)}"


def printable(text: bytes) -> str:
    """A plain value's JSON text as it may stand in a sentence."""
    shown = text[: 4 * LONGEST_QUOTE].decode(errors="replace")
    shown = "".join(character if character.isprintable() else " " for character in shown)
    return shown if len(shown) <= LONGEST_QUOTE else f"{shown[:LONGEST_QUOTE]}…"


def _names(text: bytes) -> str:
    try:
        return listed(parts_of(text))
    except Malformed:
        return ""


def _count(text: bytes) -> int:
    try:
        return len(parts_of(text))
    except Malformed:
        return 0
