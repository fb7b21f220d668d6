from __future__ import annotations

import base64
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import make_url

from nango_dagster.errors import ConfigError
from nango_dagster.settings import Settings, redact_url

KEY = base64.b64encode(bytes(range(32))).decode()


def settings(**environ: str) -> Settings:
    return Settings.from_env(environ, dotenv=None)


def test_without_any_variable_the_store_is_a_file_in_the_home_folder() -> None:
    read = settings(NANGO_HOME="/srv/nango")
    assert read.db_url == "sqlite:////srv/nango/nango.db"
    assert read.db_schema == "nango"
    assert read.port == 3003
    assert read.log_level == "INFO"
    assert read.secret_keys == ()
    assert read.prune_after_days == read.delete_after_days == 0
    assert read.delete_runs_after_days == 14
    assert not read.allow_private_hosts


def test_folders_are_absolute() -> None:
    read = settings()
    assert read.home == Path.cwd() / ".nango"
    assert read.configs == Path.cwd() / "sync_configs"


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({"NANGO_DB_HOST": "db"}, "postgresql+psycopg://nango:nango@db:5432/nango"),
        ({"NANGO_DB_USER": "ann"}, "postgresql+psycopg://ann:nango@localhost:5432/nango"),
        (
            {"NANGO_DB_HOST": "::1", "NANGO_DB_PORT": "55", "NANGO_DB_NAME": "n"},
            "postgresql+psycopg://nango:nango@[::1]:55/n",
        ),
        (
            {"NANGO_DB_HOST": "/run/pg"},
            "postgresql+psycopg://nango:nango@:5432/nango?host=%2Frun%2Fpg",
        ),
        (
            {"NANGO_DB_HOST": "db", "NANGO_DB_SSL": "TRUE"},
            "postgresql+psycopg://nango:nango@db:5432/nango?sslmode=require",
        ),
        ({"NANGO_DB_URL": "postgres://a:b@h/n"}, "postgresql+psycopg://a:b@h/n"),
        (
            {"NANGO_DB_URL": "postgresql+psycopg2://a:b@h/n", "NANGO_DB_HOST": "x"},
            "postgresql+psycopg://a:b@h/n",
        ),
        (
            {"NANGO_DB_URL": "postgresql://h/n?x=1", "NANGO_DB_SSL": "true"},
            "postgresql+psycopg://h/n?x=1&sslmode=require",
        ),
        (
            {"NANGO_DB_URL": "postgresql://h/n?sslmode=verify-full", "NANGO_DB_SSL": "true"},
            "postgresql+psycopg://h/n?sslmode=verify-full",
        ),
        ({"NANGO_DB_URL": "sqlite:////tmp/x.db"}, "sqlite:////tmp/x.db"),
    ],
)
def test_the_database_url(environ: dict[str, str], url: str) -> None:
    assert settings(**environ).db_url == url


def test_a_relative_sqlite_path_becomes_absolute() -> None:
    assert settings(NANGO_DB_URL="sqlite:///x.db").db_url == f"sqlite:///{Path.cwd()}/x.db"


@given(st.text(st.characters(min_codepoint=33, max_codepoint=0x2FFF), min_size=1).filter(lambda t: t == t.strip()))
def test_any_password_reaches_the_database_as_it_is(password: str) -> None:
    url = make_url(settings(NANGO_DB_PASSWORD=password).db_url)
    assert url.password == password
    assert (url.host, url.database) == ("localhost", "nango")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("NANGO_PORT", "http", "NANGO_PORT is 'http'; wanted a whole number from 1 to 65535."),
        ("NANGO_DB_PORT", "0", "NANGO_DB_PORT is '0'; wanted a whole number from 1 to 65535."),
        ("NANGO_DB_SSL", "require", "NANGO_DB_SSL is 'require'; wanted true or false."),
        ("NANGO_DB_HOST", "db/x", "NANGO_DB_HOST is 'db/x'; wanted a host name"),
        ("NANGO_DB_SCHEMA", "a.b", "NANGO_DB_SCHEMA is 'a.b'; wanted at most 63 letters"),
        ("NANGO_DB_URL", "mysql://u:hidden@h/n", "NANGO_DB_URL cannot be used; wanted postgresql://"),
        ("NANGO_DB_URL", "sqlite:///:memory:", "wanted an SQLite database in a file"),
        ("NANGO_WEBHOOK_URL", "example.com/hidden", "NANGO_WEBHOOK_URL cannot be used; wanted a URL such as"),
        ("PIZZLY_BASE_URL", "http://h:x", "PIZZLY_BASE_URL cannot be used; wanted a URL"),
        ("LOG_LEVEL", "loud", "LOG_LEVEL is 'loud'; wanted one of debug, info, warning, error, critical."),
        ("NANGO_PRUNE_AFTER_DAYS", "-1", "NANGO_PRUNE_AFTER_DAYS is '-1'; wanted a whole number from 0"),
        ("NANGO_SECRET_KEY", "hidden key", "NANGO_SECRET_KEY cannot be used; wanted keys"),
        ("NANGO_ENCRYPTION_KEY", "hidden", "NANGO_ENCRYPTION_KEY cannot be used; wanted 32 bytes as Base64"),
    ],
)
def test_a_wrong_value_is_answered_with_what_is_wanted(name: str, value: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        settings(**{name: value})
    assert said in str(caught.value)
    assert "hidden" not in str(caught.value)
    assert caught.value.problems[0].field == name


def test_all_wrong_values_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        settings(NANGO_PORT="x", LOG_LEVEL="y")
    assert {problem.field for problem in caught.value.problems} == {"NANGO_PORT", "LOG_LEVEL"}


def test_several_secret_keys_stand_side_by_side_and_the_first_signs() -> None:
    read = settings(NANGO_SECRET_KEY=" new , old,")
    assert read.secret_keys == ("new", "old")
    assert read.webhook_signing_key == "new"
    assert settings(NANGO_SECRET_KEY="new", NANGO_WEBHOOK_SIGNING_KEY="own").webhook_signing_key == "own"


def test_an_encryption_key_may_be_written_in_either_base64() -> None:
    wanted = base64.urlsafe_b64encode(bytes(range(200, 232))).decode()
    assert settings(NANGO_ENCRYPTION_KEY=wanted.replace("-", "+").replace("_", "/")).encryption_keys == (wanted,)
    assert settings(NANGO_ENCRYPTION_KEY=f"{wanted},{KEY}").encryption_keys == (wanted, KEY)


def test_only_nango_env_variables_are_readable_from_configs() -> None:
    read = settings(NANGO_ENV_TOKEN="t", NANGO_ENV_="", HOME="/root", NANGO_HOME="/x")
    assert dict(read.env) == {"TOKEN": "t"}


def test_a_blank_variable_counts_as_unset() -> None:
    assert settings(NANGO_PORT=" ", NANGO_DB_HOST="", LOG_LEVEL="Debug") == settings(LOG_LEVEL="debug")


def test_base_urls_lose_their_last_slash_and_hooks_keep_it() -> None:
    read = settings(PIZZLY_BASE_URL="http://p:3004/", NANGO_WEBHOOK_URL="https://h/hook/")
    assert read.pizzly_base_url == "http://p:3004"
    assert read.webhook_url == "https://h/hook/"


def test_the_env_file_yields_to_the_environment(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("NANGO_DB_SSL=TRUE # needed\nNANGO_DB_PASSWORD='p${x}$'\nNANGO_DB_HOST=filehost\nNANGO_PORT\n")
    read = Settings.from_env({"NANGO_DB_HOST": "db"}, dotenv=file)
    assert read.db_url == "postgresql+psycopg://nango:p%24%7Bx%7D%24@db:5432/nango?sslmode=require"


def test_an_env_file_in_another_encoding_is_named(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_bytes(b"A=\xff\xfe")
    with pytest.raises(ConfigError, match=r"\.env is not UTF-8 text"):
        Settings.from_env({}, dotenv=file)


def test_no_secret_shows() -> None:
    read = settings(
        NANGO_DB_PASSWORD="hidden1",
        NANGO_SECRET_KEY="hidden2",
        NANGO_WEBHOOK_SIGNING_KEY="hidden3",
        NANGO_ENCRYPTION_KEY=KEY,
        PIZZLY_SECRET_KEY="hidden4",
        NANGO_ENV_TOKEN="hidden5",
        NANGO_WEBHOOK_URL="https://h/hidden6",
    )
    for shown in (repr(read), read.redacted_db_url):
        assert "hidden" not in shown
        assert KEY not in shown
    assert redact_url("postgresql://h/n?password=hidden&x=1") == "postgresql://h/n?password=***&x=1"
