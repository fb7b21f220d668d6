"""A folder of sync scripts, as a user has it, and their executions."""

from __future__ import annotations

import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from nango_dagster import runs
from nango_dagster.config import read_dir
from nango_dagster.runs import Outcome, Wishes
from nango_dagster.settings import Settings
from nango_dagster.store import Database, connections, schema, syncs
from nango_dagster.store.sync_row import SyncRow
from nango_dagster.vault import vault_of
from tests.fake_api import FakeApi

KEY = "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s="
HEAD = "from nango_dagster import ActionError, sync\n\n"


class ScriptProject:
    """Scripts of an integration `crm` whose API is a fake one."""

    def __init__(self, db: Database, settings: Settings, api: FakeApi) -> None:
        self.db, self.api = db, api
        self.settings = replace(settings, encryption_keys=(KEY,))
        self.folder = settings.configs
        self.folder.mkdir(parents=True, exist_ok=True)

    def write(self, body: str, file: str = "items.py", head: str = HEAD) -> Path:
        """A file of the folder; `API` in it is the URL of the API."""
        path = self.folder / file
        path.parent.mkdir(exist_ok=True)
        text = head + textwrap.dedent(body).strip() + "\n"
        path.write_text(text.replace("API", repr(self.api.url)))
        return path

    def rows(self) -> dict[str, SyncRow]:
        """The stored syncs of all files."""
        configs = read_dir(self.folder)
        assert not configs.errors, configs.errors
        return syncs.register(self.db, configs.syncs)

    def row(self, body: str | None = None) -> SyncRow:
        """The stored sync of the only file, with this text."""
        if body is not None:
            self.write(body)
        return next(iter(self.rows().values()))

    def run(self, body: str | None = None, connection_id: str | None = None, **wishes: bool) -> Outcome:
        """One execution of the only script."""
        return self.execute(self.row(body), connection_id, **wishes)

    def execute(self, row: SyncRow, connection_id: str | None = None, /, **wishes: Any) -> Outcome:
        """One execution of a sync."""
        variant = wishes.pop("variant", "base")
        claim = runs.claimed(self.db, self.settings, row, connection_id=connection_id, variant=variant)
        with claim as execution:
            return replace(execution, wishes=Wishes(**wishes)).run()

    def connect(self, connection_id: str = "acme", **fields: Any) -> None:
        """A connection of the integration crm."""
        new = connections.NewConnection("crm", connection_id, **fields)
        connections.add(self.db, vault_of(self.settings), new)

    def ids(self, model: str | None = None) -> list[str]:
        """The keys of the live records."""
        raw, datasets = schema.raw.c, schema.datasets.c
        query = sa.select(raw.external_id).join(schema.datasets, datasets.id == raw.dataset_id)
        query = query.where(raw.deleted_at.is_(None)).order_by(raw.external_id)
        with self.db.connect() as connection:
            return list(connection.execute(query if model is None else query.where(datasets.model == model)).scalars())

    def texts(self) -> dict[str, str]:
        """The stored texts of the records by their keys."""
        raw = schema.raw.c
        text = sa.cast(raw.data, sa.Text).label("data")
        with self.db.connect() as connection:
            return {row.external_id: row.data for row in connection.execute(sa.select(raw.external_id, text))}

    def checkpoint(self) -> str | None:
        """The stored checkpoint of the only schedule."""
        with self.db.connect() as connection:
            text: str | None = connection.execute(sa.select(schema.schedules.c.checkpoint)).scalar()
            return text
