"""dlt with a pipeline for each connection, one after the other in one process: `dlt_pipelines.py COUNT`.

It is run by a Python of its own that has `dlt[postgres]`; see `benchmarks.connections`.
"""

from __future__ import annotations

import os
import sys
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

os.environ |= {"RUNTIME__DLTHUB_TELEMETRY": "false", "RUNTIME__LOG_LEVEL": "ERROR"}
os.environ |= {"LOAD__DELETE_COMPLETED_JOBS": "true"}

import dlt  # type: ignore[import-not-found]
from dlt.sources.rest_api import rest_api_source  # type: ignore[import-not-found]


def main() -> None:
    """Load so many connections."""
    destination = dlt.destinations.postgres(_credentials(os.environ["BENCH_DB"]))
    for number in range(int(sys.argv[1])):
        pipeline = dlt.pipeline(
            f"connection_{number}", destination=destination, dataset_name="bench", pipelines_dir="pipelines"
        )
        pipeline.run(_source(number))


def _credentials(url: str) -> dict[str, Any]:
    """The server's address in parts: a URL with a socket instead of a host is none to dlt."""
    parts = urlsplit(url)
    return {
        "host": parts.hostname or quote(parse_qs(parts.query)["host"][0], safe=""),
        "port": parts.port or 5432,
        "database": parts.path.strip("/"),
        "username": parts.username,
        "password": parts.password or "none",
    }


def _source(number: int) -> Any:
    resource = {
        "name": "issues",
        "primary_key": ["connection_id", "id"],
        "write_disposition": {"disposition": "merge", "strategy": "upsert"},
        "endpoint": {
            "path": "issues",
            "params": {"account": number, "size": int(os.environ["BENCH_RECORDS"])},
            "data_selector": "results",
            "paginator": "single_page",
        },
        "processing_steps": [{"map": lambda record: {**record, "connection_id": number}}],
    }
    source = rest_api_source({"client": {"base_url": f"{os.environ['BENCH_API']}/"}, "resources": [resource]})
    source.max_table_nesting = 0
    return source


if __name__ == "__main__":
    main()
