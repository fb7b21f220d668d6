"""An execution takes no more memory for a million records than for ten thousand.

`MEMORY_TEST_RECORDS=1000000 make test PYTEST_ARGS="tests/test_memory.py -s"` tries the million and shows the figures.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nango_dagster.config import Sync
from nango_dagster.store import Database, syncs
from tests.crash_worker import Result, Workers
from tests.executions import PAGING
from tests.fake_api import Answer, FakeApi, Received

pytestmark = [pytest.mark.acceptance, pytest.mark.long]

FEW = 10_000
MANY = int(os.environ.get("MEMORY_TEST_RECORDS", "100000"))
PAGE = 1000
MOST = 10_000_000  # bytes more for many than for few
MODES: dict[str, dict[str, Any]] = {
    "upsert": {"unique_key": "id", "track_deletes": True},
    "overwrite": {},
}


@pytest.fixture
def workers(tmp_path: Path, settings_env: dict[str, str]) -> Iterator[Workers]:
    with Workers(tmp_path, settings_env) as running:
        yield running


class Growing:
    """A list of any length, page by page, without keeping it; every other record changes with the generation."""

    def __init__(self, api: FakeApi) -> None:
        self.length = 0
        self.generation = 0
        api.route("/items", self.answer)

    def answer(self, request: Received) -> Answer:
        start = int(request.params.get("page", 0))
        end = min(start + PAGE, self.length)
        records = b",".join(self.record(number) for number in range(start, end))
        following = b"%d" % end if end < self.length else b"null"
        return Answer(body=b'{"results":[%b],"next":%b}' % (records, following))

    def record(self, number: int) -> bytes:
        generation = self.generation * (number % 2)
        return b'{"id":"key-%09d","amount":%d.5,"at":"2024-01-15T10:30:00Z","note":"generation %d"}' % (
            number,
            number,
            generation,
        )


@pytest.mark.parametrize("mode", MODES)
def test_many_records_take_hardly_more_memory_than_few(db: Database, workers: Workers, api: FakeApi, mode: str) -> None:
    source = Growing(api)

    def execution(length: int, generation: int) -> Result:
        """A whole execution in a process of its own, of a list of this length."""
        source.length, source.generation = length, generation
        result = workers.run(f"items-{size}")
        assert result.status == "succeeded", result
        api.requests.clear()
        print(f"\n{mode} {db.engine.name} {length:,} records: {result.peak / 1e6:.1f} MB, {result.counts}")
        return result

    peaks: dict[str, list[int]] = {}
    for size in (FEW, MANY):
        sync = Sync(name=f"items-{size}", url=f"{api.url}/items", **PAGING, **MODES[mode])
        syncs.register(db, [sync])
        first = execution(size, generation=0)
        assert first.counts["added"] == size
        again = execution(size * 9 // 10, generation=1)
        assert again.counts["unchanged"] == size * 9 // 20
        assert again.counts["deleted"] == (size // 10 if mode == "upsert" else size // 10 + size * 9 // 20)
        for what, result in (("first", first), ("again", again)):
            peaks.setdefault(what, []).append(result.peak)
    for what, (few, many) in peaks.items():
        assert many - few <= MOST, f"{what}: {few / 1e6:.1f} MB for {FEW:,}, {many / 1e6:.1f} MB for {MANY:,} records"
