"""Secrets of sync configs and of metadata are encrypted beside what may be read."""

from __future__ import annotations

import base64
import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from nango_dagster.config import Sync
from nango_dagster.settings import Settings
from nango_dagster.store import Database, connections, schema, sealing, syncs
from nango_dagster.vault import Vault

URL = "https://api.example.com/items"
KEY, OTHER = (base64.b64encode(letter * 32).decode() for letter in (b"k", b"o"))
WITH_SECRETS = Sync(
    name="items", url=f"{URL}?api_key=k1", headers={"Authorization": "Bearer t", "X-Team": "7"}, query_params={"n": 1}
)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(settings, encryption_keys=(KEY,))


def with_key(db: Database, *keys: str) -> Database:
    return replace(db, vault=lambda: Vault(keys))


def kept(db: Database) -> str:
    with db.connect() as connection:
        text: str = connection.execute(sa.select(schema.syncs.c.config)).scalar_one()
        return text


def test_a_config_is_read_as_it_was_and_kept_with_stars(db: Database) -> None:
    before = syncs.register(db, [WITH_SECRETS])["items"]
    document = json.loads(kept(db))
    assert document["headers"] == {"Authorization": "***", "X-Team": "7"} and document["url"] == f"{URL}?api_key=***"
    assert sorted(json.loads(db.vault()._fernet.decrypt(document["$sealed"]))) == ["headers", "url"]
    assert syncs.by_name(db, "items") == before


def test_the_same_config_is_not_written_again(db: Database) -> None:
    first = syncs.register(db, [WITH_SECRETS])["items"]
    text = kept(db)
    assert syncs.register(db, [WITH_SECRETS])["items"].updated_at == first.updated_at and kept(db) == text
    changed = WITH_SECRETS.model_copy(update={"headers": {"Authorization": "Bearer u", "X-Team": "7"}})
    assert syncs.register(db, [changed])["items"].updated_at > first.updated_at


def test_a_config_without_secrets_needs_no_key(db: Database) -> None:
    placeholders: dict[str, Any] = {
        "headers": {"Authorization": "Bearer ${access_token}"},
        "url": f"{URL}?key=${{env.KEY}}",
    }
    sync = Sync(name="items", integration="crm", **placeholders)
    syncs.register(replace(db, vault=_no_key), [sync])
    assert json.loads(kept(db)) == {"name": "items", "integration": "crm", **placeholders}


def _no_key() -> Vault:
    raise AssertionError("nobody asks for the key")


def test_a_lost_key_costs_a_file_s_sync_nothing_and_hides_no_other(
    db: Database, caplog: pytest.LogCaptureFixture
) -> None:
    syncs.register(db, [WITH_SECRETS, Sync(name="plain", url=URL)])
    other = with_key(db, OTHER)
    assert [row.name for row in syncs.all(other)] == ["plain"]
    assert "encrypted with another key" in caplog.text
    syncs.register(other, [WITH_SECRETS])
    assert [row.name for row in syncs.all(other)] == ["items", "plain"]


def test_metadata_is_read_as_it_was_and_kept_with_stars(db: Database) -> None:
    given = {"api_secret": "s", "region": "eu", "deep": {"password": "p", "n": 1}}
    made = connections.add(db, None, connections.NewConnection("crm", "acme", metadata=given))
    assert made.metadata == given
    with db.connect() as connection:
        stored = json.loads(connection.execute(sa.select(schema.connections.c.metadata)).scalar_one())
    assert sealing.with_stars(stored) == {"api_secret": "***", "region": "eu", "deep": {"password": "***", "n": 1}}
    connections.update_metadata(db, "crm", "acme", {"region": "us"})
    found = connections.secrets(db, "crm", "acme")
    assert found is not None and found.metadata == {**given, "region": "us"}
    unread = connections.get(with_key(db, OTHER), "crm", "acme")
    assert unread is not None and unread.metadata["api_secret"] == "***"


def test_without_a_key_for_postgresql_it_is_kept_as_it_is_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    settings = Settings(db_url="postgresql+psycopg://db/nango", home=Path("home"))
    sealing._warn.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert sealing.seal({"token": "t"}, {"token": "***"}, lambda: Vault.open(settings)) == {"token": "t"}
    assert "NANGO_ENCRYPTION_KEY is not set" in caplog.text
