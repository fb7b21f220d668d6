"""This project's engine as a contestant: one execution in one process, without Dagster.

usage: nango_engine.py sqlite|postgres    (the environment is the harness's: BENCH_BASE, BENCH_QUERY, BENCH_WORK, BENCH_PG)
"""

import json
import os
import sys
import time
from pathlib import Path

from nango_dagster import runs
from nango_dagster.config import Sync
from nango_dagster.settings import Settings
from nango_dagster.store import open_database, syncs


def main() -> None:
    began = time.perf_counter()
    work = Path(os.environ["BENCH_WORK"])
    url = os.environ["BENCH_PG"] if sys.argv[1] == "postgres" else f"sqlite:///{work}/nango.db"
    settings = Settings.from_env({"NANGO_DB_URL": url, "NANGO_HOME": str(work)}, dotenv=None)
    sync = Sync(
        name="issues",
        url=f"{os.environ['BENCH_BASE']}/issues?{os.environ['BENCH_QUERY']}",
        unique_key="id",
        response_path="results",
        paging_cursor_request_path="after",
        paging_cursor_metadata_response_path="paging.next.after",
        mapped_table="issues",
        track_deletes=True,
        max_page_bytes=100_000_000,
    )
    database = open_database(settings)
    row = syncs.register(database, [sync])["issues"]
    with runs.claimed(database, settings, row) as pull:
        outcome = pull.save()
    if outcome.status != "succeeded":
        sys.exit(outcome.error)
    database.close()
    counts = outcome.counts
    print(
        json.dumps(
            {
                "inner_s": round(time.perf_counter() - began, 3),
                "added": counts.added,
                "updated": counts.updated,
                "deleted": counts.deleted,
                "unchanged": counts.unchanged,
            }
        )
    )


main()
