"""The token with which an API lists the next changes: a sync token, a delta URL or a sequence number."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..config import Incremental
from ..incremental import MAX_POSITION
from ..paging import Answer
from ..paths import MISSING


def token_of(answer: Answer, block: Incremental | None) -> Any:
    """The token of an answer; None if it has none."""
    path = None if block is None else _path(block)
    token = MISSING if path is None or not answer.envelope.document.text else answer.envelope.dig(path)
    return None if token is MISSING else token


def token_problem(token: Any, block: Incremental, secrets: Iterable[str | None]) -> str | None:
    """The sentence of a token that cannot be stored: it is missing, too long, or contains a credential."""
    if isinstance(token, bool) or not isinstance(token, str | int | float) or token == "":
        return f'no answer had a token at "{_path(block)}"; the next execution reads the same again.'
    if len(str(token)) > MAX_POSITION:
        return f'the token at "{_path(block)}" has {len(str(token)):,} characters; at most {MAX_POSITION:,} are stored.'
    if not is_storable(str(token), secrets):
        return f'the token at "{_path(block)}" contains a credential of the connection, and is not stored.'
    return None


def is_storable(text: str, secrets: Iterable[str | None]) -> bool:
    """Whether a token or a position may be stored: it is not too long, and contains no credential."""
    return len(text) <= MAX_POSITION and not any(secret and secret in text for secret in secrets)


def _path(block: Incremental) -> str | None:
    return block.token_path or block.token_url_path
