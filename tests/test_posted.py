"""Definitions know the posted syncs, also while the store does not answer."""

from __future__ import annotations

import base64
import json
import socket
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from nango_dagster import posted
from nango_dagster.config import Sync, from_body
from nango_dagster.settings import Settings
from nango_dagster.store import Database, syncs

URL = "https://api.example.com/items"
KEY = base64.b64encode(b"k" * 32).decode()


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """With a key, so that what is stored in one database can be read without it."""
    return replace(settings, encryption_keys=(KEY,))


def post(db: Database, **fields: object) -> Sync:
    return syncs.post(db, from_body({"url": URL, **fields}), named="name" in fields).sync


@pytest.fixture
def silent_server() -> Iterator[int]:
    """The port of a server that accepts connections and then says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def down(settings: Settings, port: int = 1) -> Settings:
    return replace(settings, db_url=f"postgresql+psycopg://nango:s3cret@127.0.0.1:{port}/nango")


def test_the_store_says_what_was_posted(settings: Settings, db: Database) -> None:
    first = post(db, name="items", headers={"Authorization": "Bearer t"})
    second = post(db, unique_key="id")
    syncs.register(db, [Sync(name="of-a-file", url=URL)])
    assert posted.load(settings) == posted.load(settings, db) == [first, second]


def test_without_a_store_there_is_none_and_none_is_made(settings: Settings) -> None:
    assert posted.load(settings) == []
    assert not settings.home.exists()
    assert not Path(settings.db_url.removeprefix("sqlite:///")).exists()


def test_the_file_says_it_while_the_store_is_down(
    settings: Settings, db: Database, caplog: pytest.LogCaptureFixture
) -> None:
    first = post(db, name="items", unique_key="id", headers={"Authorization": "Bearer t"})
    posted.refresh(settings, db)
    assert "Bearer" not in (settings.home / posted.FILE).read_text()
    assert posted.load(down(settings)) == [first]
    assert "cannot reach the database" in caplog.text
    assert "s3cret" not in caplog.text


def test_a_store_that_hangs_is_not_waited_for(
    settings: Settings,
    db: Database,
    silent_server: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    first = post(db)
    posted.refresh(settings, db)
    monkeypatch.setattr(posted, "SECONDS", 0.2)
    assert posted.load(down(settings, silent_server)) == [first]
    assert "did not answer within 0.2 seconds" in caplog.text


def test_tables_that_are_not_made_yet_are_no_error(settings: Settings, db: Database) -> None:
    first = post(db)
    posted.refresh(settings, db)
    other = replace(settings, db_schema="nango_test_none", db_url=_empty(settings))
    assert posted.load(other) == [first]


def _empty(settings: Settings) -> str:
    if not settings.db_url.startswith("sqlite"):
        return settings.db_url
    file = settings.home / "empty.db"
    file.touch()
    return f"sqlite:///{file}"


def test_nobody_else_can_read_the_file(settings: Settings, db: Database) -> None:
    post(db)
    posted.refresh(settings, db)
    posted.refresh(settings, db)
    file = settings.home / posted.FILE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert {path.name for path in settings.home.iterdir() if "posted" in path.name} == {
        posted.FILE,
        f".{posted.FILE}.lock",
    }


def test_a_file_that_is_half_written_is_no_file(settings: Settings, db: Database) -> None:
    posted.save(settings, [post(db)])
    before = (settings.home / posted.FILE).read_text()

    def broken() -> Iterator[Sync]:
        yield post(db, unique_key="id")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        posted.save(settings, broken())
    assert (settings.home / posted.FILE).read_text() == before


@pytest.mark.parametrize("text", ["", "[]", '{"syncs": 7}', '{"syncs": {', "[" * 100_000])
def test_a_file_that_cannot_be_read_is_said_and_hides_nothing(
    text: str, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.home.mkdir(exist_ok=True)
    (settings.home / posted.FILE).write_text(text)
    assert posted.load(down(settings)) == []
    assert f"{posted.FILE} cannot be read" in caplog.text


def test_a_sync_of_another_release_hides_no_other(
    settings: Settings, db: Database, caplog: pytest.LogCaptureFixture
) -> None:
    good = post(db)
    posted.save(settings, [good])
    file = settings.home / posted.FILE
    document = json.loads(file.read_text())
    file.write_text(json.dumps({"syncs": [{"url": URL, "hue": 7}, "sync", *document["syncs"]]}))
    assert posted.load(down(settings)) == [good]
    assert '"hue" is no field of a sync' in caplog.text
    assert "it is no object" in caplog.text


def test_of_several_that_write_at_once_the_last_tells_the_truth(settings: Settings, db: Database) -> None:
    def work(number: int) -> None:
        post(db, name=f"sync{number}")
        posted.refresh(settings, db)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    names = [sync.name for sync in posted.load(down(settings))]
    assert sorted(names) == [f"sync{number}" for number in range(8)]
