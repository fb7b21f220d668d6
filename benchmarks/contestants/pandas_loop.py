"""A typical handwritten Dagster asset: requests, a DataFrame, `to_sql` that replaces the table.

It has no change detection: every step writes all rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pandas as pd
import requests
import sqlalchemy as sa

from . import Task


def main() -> None:
    """Pull the list of the task."""
    task = Task.read()
    frame = pd.json_normalize([record for page in pages(task.list_url) for record in page], sep="_")
    frame["labels"] = frame["labels"].map(json.dumps)  # a column cannot hold a list
    # If an object is null, json_normalize adds a column of its own name, beside those of its fields.
    frame = frame.drop(columns=["assignee", "milestone"], errors="ignore")
    engine = sa.create_engine(task.database_url.replace("postgresql://", "postgresql+psycopg2://"))
    frame.to_sql("issues", engine, if_exists="replace", index=False)


def pages(list_url: str) -> Iterator[list[dict[str, Any]]]:
    """The list, page by page, on one connection."""
    with requests.Session() as session:
        url: str | None = list_url
        while url:
            response = session.get(url, timeout=60)
            response.raise_for_status()
            body = response.json()
            yield body["results"]
            following = body["paging"]["next"]
            url = following and f"{list_url}&after={following['after']}"


if __name__ == "__main__":
    main()
