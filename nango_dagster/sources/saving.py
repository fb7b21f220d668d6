"""Hand the records of pages to a sink: live ones are saved, those that the source marks as deleted are deleted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from .. import records
from ..config import Sync
from ..errors import RecordRejected
from ..fetch import Fetch, Page
from .source import Numbers, Sink

_NOT_DELETED: Final = frozenset({b"", b"null", b"false", b"0", b'""', b'"0"', b'"false"', b'"False"', b"[]"})
"""The JSON texts at `deleted_path` that mean a live record."""


class PageSaver:
    """Saves the pages of one or more fetches."""

    def __init__(self, sync: Sync, sink: Sink) -> None:
        self._sink = sink
        self._before = Numbers()
        self._read_marks = None if sync.deleted_path is None else records.token_reader(sync.deleted_path)
        self._read_keys = records.key_reader(sync.key_fields)

    @property
    def pages(self) -> int:
        """The pages of the fetches that are over."""
        return self._before.pages

    def save(self, fetch: Fetch, page: Page, texts: Sequence[bytes] | None = None) -> None:
        """Save a page, or those of its records that are given."""
        for rejected in page.rejected:
            self._sink.reject(f"{rejected.position} of page {page.number}", rejected.reason)
        self._sink.count(self._numbers(fetch))
        texts = page.records if texts is None else texts
        if self._read_marks is None:
            self._sink.save(texts)
            return
        is_deleted = [mark not in _NOT_DELETED for mark in self._read_marks(texts)]
        if any(is_deleted):
            texts, keys = self._sorted(texts, is_deleted)
            self._sink.save(texts)
            self._sink.delete(keys)
        else:
            self._sink.save(texts)

    def end(self, fetch: Fetch) -> None:
        """Count a fetch that is over."""
        self._before = self._numbers(fetch)
        self._sink.count(self._before)

    def _sorted(self, texts: Sequence[bytes], is_deleted: Sequence[bool]) -> tuple[list[bytes], list[str]]:
        """The records to save and the keys to delete; of several records with one key the last one decides."""
        saved: list[bytes] = []
        last: dict[str, bytes | None] = {}
        for key, text, deleted in zip(self._read_keys(texts), texts, is_deleted, strict=True):
            if isinstance(key, RecordRejected):
                saved.append(text)  # the sink rejects it
            else:
                last.pop(key, None)
                last[key] = None if deleted else text
        saved += [text for text in last.values() if text is not None]
        return saved, [key for key, text in last.items() if text is None]

    def _numbers(self, fetch: Fetch) -> Numbers:
        before = self._before
        return Numbers(
            before.pages + fetch.pages,
            before.records + fetch.records,
            before.requests + fetch.requests,
            before.retries + fetch.retries,
        )
