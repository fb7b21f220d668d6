"""Credentials at rest: unreadable without the key, and readable while keys change."""

from __future__ import annotations

import base64
import logging
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from nango_dagster.errors import ConfigError
from nango_dagster.settings import Settings
from nango_dagster.vault import KEY_FILE, Vault

OLD = base64.b64encode(b"o" * 32).decode()
NEW = base64.b64encode(b"n" * 32).decode()
SECRET = {"type": "API_KEY", "apiKey": "s3cr3t-value"}


def settings_of(home: Path, **env: str) -> Settings:
    return Settings.from_env({"NANGO_HOME": str(home), **env}, dotenv=None)


def test_what_is_stored_does_not_show_the_secret(tmp_path: Path) -> None:
    vault = Vault.open(settings_of(tmp_path, NANGO_ENCRYPTION_KEY=NEW))
    stored = vault.encrypt(SECRET)
    assert "s3cr3t" not in stored and "API_KEY" not in stored
    assert vault.decrypt(stored) == SECRET
    assert vault.encrypt(SECRET) != stored


def test_a_new_key_in_front_of_the_old_one_reads_both(tmp_path: Path) -> None:
    old = Vault.open(settings_of(tmp_path, NANGO_ENCRYPTION_KEY=OLD)).encrypt(SECRET)
    both = Vault.open(settings_of(tmp_path, NANGO_ENCRYPTION_KEY=f"{NEW},{OLD}"))
    assert both.decrypt(old) == SECRET
    assert Vault.open(settings_of(tmp_path, NANGO_ENCRYPTION_KEY=NEW)).decrypt(both.encrypt(SECRET)) == SECRET


def test_another_key_or_a_changed_text_is_a_sentence(tmp_path: Path) -> None:
    stored = Vault.open(settings_of(tmp_path, NANGO_ENCRYPTION_KEY=OLD)).encrypt(SECRET)
    new = Vault.open(settings_of(tmp_path, NANGO_ENCRYPTION_KEY=NEW))
    for text in (stored, new.encrypt(SECRET)[:-2] + "AA", ""):
        with pytest.raises(ConfigError, match="encrypted with another key; add it to NANGO_ENCRYPTION_KEY"):
            new.decrypt(text)


def test_on_sqlite_a_key_is_made_once_for_its_owner_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    home = tmp_path / "new"
    with caplog.at_level(logging.WARNING):
        stored = Vault.open(settings_of(home)).encrypt(SECRET)
        assert Vault.open(settings_of(home)).decrypt(stored) == SECRET
    assert stat.S_IMODE((home / KEY_FILE).stat().st_mode) == 0o600
    (said,) = [record.getMessage() for record in caplog.records]
    assert str(home / KEY_FILE) in said and (home / KEY_FILE).read_text() not in said


def test_a_broken_key_file_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / KEY_FILE).write_text("not a key")
    with pytest.raises(ConfigError, match="it holds no key of 32 bytes"):
        Vault.open(settings_of(tmp_path))


def test_on_postgresql_no_key_is_made(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, NANGO_DB_URL="postgresql://db.example.com/nango")
    with pytest.raises(ConfigError, match="NANGO_ENCRYPTION_KEY is not set; wanted 32 bytes"):
        Vault.open(settings)
    assert not (tmp_path / KEY_FILE).exists()


def test_processes_that_start_at_once_share_one_whole_key(tmp_path: Path) -> None:
    code = (
        "import sys; from nango_dagster.settings import Settings; from nango_dagster.vault import Vault; "
        "print(Vault.open(Settings.from_env({'NANGO_HOME': sys.argv[1]}, dotenv=None)).encrypt({'k': 1}))"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    texts = [process.communicate()[0].strip() for process in processes]
    vault = Vault.open(settings_of(tmp_path))
    assert [vault.decrypt(text) for text in texts] == [{"k": 1}] * 4
    assert [file.name for file in tmp_path.iterdir()] == [KEY_FILE]
