"""Why the connections of a sync fail: their errors, counted by reason."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ..partition_keys import names_of

REQUEST = re.compile(r"\b[A-Z]{3,7} https?://\S+")
_ID = re.compile(r"\b(?=[\w-]*\d)[\w-]{6,}")
"""A word that may differ from error to error: the id of a request, a date, a large number."""
_SHOWN = 3
_LONGEST = 200


@dataclass(frozen=True)
class Reason:
    """The error of one connection, and how many connections have the same error."""

    partition: str
    sentence: str
    connections: int = 1

    def __str__(self) -> str:
        others = f"{self.connections:,} connections, such as " if self.connections > 1 else ""
        sentence = self.sentence if len(self.sentence) <= _LONGEST else f"{self.sentence[:_LONGEST]}…"
        return f"{others}{self.partition}: {sentence}"


def reasons_of(errors: Mapping[str, str]) -> list[Reason]:
    """The reasons in the errors of partitions, the most frequent first.

    Errors are one reason if they differ only in the connection, the request, and ids.

    >>> for reason in reasons_of({
    ...     "acme": "contacts for acme: GET https://acme.example.com/v1 answered 401",
    ...     "beta": "contacts for beta: GET https://beta.example.com/v1 answered 401",
    ...     "cyan": "contacts for cyan: GET https://cyan.example.com/v1 answered 500",
    ... }):
    ...     print(reason)
    2 connections, such as acme: GET https://acme.example.com/v1 answered 401
    cyan: GET https://cyan.example.com/v1 answered 500
    """
    partitions: dict[str, list[str]] = {}
    for partition in sorted(errors):
        partitions.setdefault(_kind(partition, errors[partition]), []).append(partition)
    ordered = sorted(partitions.values(), key=len, reverse=True)
    return [Reason(names[0], _without_connection(names[0], errors[names[0]]), len(names)) for names in ordered]


def sentences_of(errors: Mapping[str, str]) -> list[str]:
    """The three most frequent reasons as sentences, and the number of connections with other reasons."""
    reasons = reasons_of(errors)
    others = sum(reason.connections for reason in reasons[_SHOWN:])
    return [*map(str, reasons[:_SHOWN]), *([f"{others:,} connections with other errors"] if others else [])]


def _without_connection(partition: str, sentence: str) -> str:
    """An error without the sync and the connection at its start, which the reason names already."""
    start, _, rest = sentence.partition(": ")
    return rest if start.endswith(f" for {names_of(partition)[0]}") else sentence


def _kind(partition: str, sentence: str) -> str:
    """The part of an error that it shares with the errors of other connections."""
    sentence = REQUEST.sub("", _without_connection(partition, sentence))
    for name in {partition, *names_of(partition)}:
        if name in sentence:
            sentence = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "", sentence)
    return _ID.sub("", sentence)
