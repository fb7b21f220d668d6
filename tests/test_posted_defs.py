"""Posted syncs inside Dagster's definitions stay posted syncs."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from dagster import DagsterInstance

from nango_dagster.config import from_body
from nango_dagster.defs import NangoResource, build_definitions
from nango_dagster.settings import Settings
from nango_dagster.store import Database, jobs, syncs
from tests.fake_api import FakeApi


@pytest.mark.parametrize("job", ["nango_dispatch", "items_job"])
def test_a_posted_sync_stays_posted_and_a_deleted_one_gone(
    job: str, settings: Settings, db: Database, api: FakeApi, tmp_path: Path
) -> None:
    api.route("/items", {"results": [{"id": 1}]})
    settings.configs.mkdir(exist_ok=True)
    row = syncs.post(db, from_body({"url": f"{api.url}/items", "name": "items"}), named=True)
    definitions = build_definitions(settings=settings)
    assert definitions.resources is not None
    nango: NangoResource = definitions.resources["nango"]
    with DagsterInstance.local_temp(str(tmp_path)) as instance, closing(nango.database):
        assert definitions.resolve_job_def(job).execute_in_process(instance=instance).success
        (stored,) = syncs.all(db)
        assert (stored.id, stored.origin) == (row.id, "http")
        assert [one.status for one in jobs.list_jobs(db)] == ["succeeded"]
        changed = syncs.post(
            db, from_body({"url": f"{api.url}/items", "name": "items", "unique_key": "id"}), named=True
        )
        definitions.resolve_job_def(job).execute_in_process(instance=instance, raise_on_error=False)
        assert syncs.all(db) == [changed]  # these definitions are older than the change
        syncs.delete(db, row.id)
        definitions.resolve_job_def(job).execute_in_process(instance=instance, raise_on_error=False)
        assert syncs.all(db) == []
