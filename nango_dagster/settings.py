"""The environment, read once into one frozen `Settings`; every value is checked when it is read."""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from nango_dagster.errors import ConfigError, Problem

_LOG_LEVELS = ("debug", "info", "warning", "error", "critical")
_WEBHOOKS = ("changes", "always", "failure", "auth")
_POSTGRESQL_SCHEMES = ("postgresql", "postgres", "postgresql+psycopg", "postgresql+psycopg2")


@dataclass(frozen=True)
class Settings:
    """All settings of a process, as one immutable value.

    >>> Settings.from_env({"NANGO_DB_HOST": "db", "NANGO_DB_PASSWORD": "secret"}, dotenv=None).redacted_db_url
    'postgresql+psycopg://nango:***@db:5432/nango'
    """

    db_url: str = field(repr=False)
    home: Path
    db_schema: str = "nango"
    configs: Path = Path("sync_configs")
    scripts: Path = Path("nango-integrations")
    """The Nango project whose TypeScript syncs are loaded, if there is one."""
    project_name: str | None = None
    secret_keys: tuple[str, ...] = field(default=(), repr=False)
    webhook_url: str | None = field(default=None, repr=False)
    webhook_url_secondary: str | None = field(default=None, repr=False)
    webhook_signing_key: str | None = field(default=None, repr=False)
    webhook_on: frozenset[str] = frozenset({"changes", "failure", "auth"})
    encryption_keys: tuple[str, ...] = field(default=(), repr=False)
    pizzly_base_url: str | None = field(default=None, repr=False)
    pizzly_secret_key: str | None = field(default=None, repr=False)
    log_level: str = "INFO"
    port: int = 3003
    api_rate_limit: int = 0
    api_keep_alive: int = 75
    proxy_bytes: int = 100_000_000
    """The longest body of a request to `/proxy`, and of its answer."""
    metrics_without_key: bool = False
    dagster_url: str | None = None
    prune_after_days: int = 0
    delete_after_days: int = 0
    delete_runs_after_days: int = 14
    allow_private_hosts: bool = False
    script_memory: int = 2_000_000_000
    """The bytes of memory that a process may have while it runs Python scripts."""
    env: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, *, dotenv: Path | None = Path(".env")) -> Settings:
        """Read the settings from the process's environment and a `.env` file; the environment wins.

        Raises ConfigError with a sentence for each variable that is wrong.
        """
        process = os.environ if environ is None else environ
        read = _Reader({**_dotenv(dotenv), **process})
        secret_keys = read.texts("NANGO_SECRET_KEY")
        home = read.path("NANGO_HOME", ".nango")
        settings = cls(
            db_url=_database(read, home),
            home=home,
            db_schema=_schema(read),
            configs=read.path("NANGO_SYNC_CONFIGS", "sync_configs"),
            scripts=read.path("NANGO_SCRIPTS", "nango-integrations"),
            project_name=read.text("NANGO_PROJECT"),
            secret_keys=secret_keys,
            webhook_url=read.url("NANGO_WEBHOOK_URL"),
            webhook_url_secondary=read.url("NANGO_WEBHOOK_URL_SECONDARY"),
            webhook_signing_key=read.text("NANGO_WEBHOOK_SIGNING_KEY") or next(iter(secret_keys), None),
            webhook_on=_webhook_on(read),
            encryption_keys=_encryption_keys(read),
            pizzly_base_url=read.base_url("PIZZLY_BASE_URL"),
            pizzly_secret_key=read.text("PIZZLY_SECRET_KEY"),
            log_level=_log_level(read),
            port=read.whole("NANGO_PORT", 3003, 1, 65535),
            api_rate_limit=read.whole("NANGO_API_RATE_LIMIT", 0, 0, 100_000_000),
            proxy_bytes=read.whole("NANGO_PROXY_MAX_MB", 100, 1, 1_000_000) * 1_000_000,
            api_keep_alive=read.whole("NANGO_API_KEEP_ALIVE", 75, 1, 3600),
            metrics_without_key=read.flag("NANGO_METRICS_WITHOUT_KEY"),
            dagster_url=read.base_url("NANGO_DAGSTER_URL"),
            prune_after_days=read.whole("NANGO_PRUNE_AFTER_DAYS", 0, 0, 36_500),
            delete_after_days=read.whole("NANGO_DELETE_AFTER_DAYS", 0, 0, 36_500),
            delete_runs_after_days=read.whole("NANGO_DELETE_RUNS_AFTER_DAYS", 14, 0, 36_500),
            allow_private_hosts=read.flag("NANGO_ALLOW_PRIVATE_HOSTS"),
            script_memory=read.whole("NANGO_SCRIPT_MEMORY_MB", 2000, 100, 10_000_000) * 1_000_000,
            env=MappingProxyType(read.prefixed("NANGO_ENV_")),
        )
        read.finish()
        return settings

    @property
    def project(self) -> str:
        """The owner of the syncs in this process's config files; by default named after the folder around them."""
        return self.project_name or self.configs.resolve().parent.name

    @property
    def redacted_db_url(self) -> str:
        """The database's URL with stars in place of the password."""
        return redact_url(self.db_url)


def redact_url(url: str) -> str:
    """A database URL with stars in place of its passwords, also those in its query.

    >>> redact_url("postgresql://ann:s3:cr@t@db/nango?password=x")
    'postgresql://ann:***@db/nango?password=***'
    """
    url = re.sub(r"(://[^:/?]*):.*@", r"\1:***@", url)
    return re.sub(r"([?&][^=&]*(?:password|passfile|sslkey)[^=&]*=)[^&]*", r"\1***", url)


class _Reader:
    """Reads and checks variables, and collects the problems, so that one error names all of them."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values
        self._problems: list[Problem] = []

    def text(self, name: str) -> str | None:
        """The value, or None where it is unset or blank (`NAME=` in a compose file means unset)."""
        return self._values.get(name, "").strip() or None

    def texts(self, name: str) -> tuple[str, ...]:
        keys = tuple(key.strip() for key in (self.text(name) or "").split(",") if key.strip())
        if not all(key.isascii() and key.isprintable() and " " not in key for key in keys):
            self.wrong(name, None, "keys of plain ASCII characters without blanks, separated by commas")
        return keys

    def whole(self, name: str, default: int, least: int, most: int) -> int:
        text = self.text(name)
        if text is None:
            return default
        if text.isascii() and text.isdigit() and len(text) < 10 and least <= int(text) <= most:
            return int(text)
        self.wrong(name, text, f"a whole number from {least} to {most}")
        return default

    def flag(self, name: str) -> bool:
        text = (self.text(name) or "false").lower()
        if text not in ("1", "true", "yes", "on", "0", "false", "no", "off"):
            self.wrong(name, text, "true or false")
        return text in ("1", "true", "yes", "on")

    def url(self, name: str) -> str | None:
        """An http(s) URL; it may contain a secret, so errors do not show it."""
        text = self.text(name)
        if text is not None and not _is_http(text):
            self.wrong(name, None, "a URL such as https://example.com/hook")
        return text

    def base_url(self, name: str) -> str | None:
        """A URL without its last slash, to which paths are added."""
        return (self.url(name) or "").rstrip("/") or None

    def path(self, name: str, default: str) -> Path:
        return Path(self.text(name) or default).expanduser().absolute()

    def prefixed(self, prefix: str) -> dict[str, str]:
        return {
            name[len(prefix) :]: value
            for name, value in sorted(self._values.items())
            if name.startswith(prefix) and len(name) > len(prefix)
        }

    def wrong(self, name: str, found: str | None, wanted: str) -> None:
        """Add a problem; `found` is None for values that may be secret."""
        subject = f"{name} is {found!r}" if found is not None else f"{name} cannot be used"
        self._problems.append(Problem(f"{subject}; wanted {wanted}.", field=name, found=found, wanted=wanted))

    def finish(self) -> None:
        if self._problems:
            raise ConfigError.of(*self._problems)


def _dotenv(path: Path | None) -> dict[str, str]:
    if path is None or not path.is_file():
        return {}
    from dotenv import dotenv_values

    try:
        # Not interpolated: a `$` in a password is a `$`.
        values = dotenv_values(path, interpolate=False, encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text; save it as UTF-8.") from error
    return {name: value for name, value in values.items() if value is not None}


def _is_http(text: str) -> bool:
    try:
        url = urlsplit(text)
        return url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        return False


def _database(read: _Reader, home: Path) -> str:
    """The database: the URL given, else PostgreSQL from its parts, else SQLite in the home folder."""
    require_ssl = read.flag("NANGO_DB_SSL")
    given = read.text("NANGO_DB_URL")
    if given:
        return _given_database(read, given, require_ssl)
    if any(read.text(f"NANGO_DB_{part}") for part in ("HOST", "PORT", "USER", "PASSWORD", "NAME")):
        return _postgresql(read, require_ssl)
    return _sqlite(read, "NANGO_HOME", str(home / "nango.db"))


def _given_database(read: _Reader, url: str, require_ssl: bool) -> str:
    scheme, colon, rest = url.partition("://")
    if colon and scheme in _POSTGRESQL_SCHEMES:
        return _with_ssl(f"postgresql+psycopg://{rest}", require_ssl)
    if scheme == "sqlite" and rest.startswith("/") and len(rest) > 1:
        return _sqlite(read, "NANGO_DB_URL", rest[1:])
    read.wrong("NANGO_DB_URL", None, "postgresql://user:password@host:5432/name or sqlite:////folder/nango.db")
    return url


def _sqlite(read: _Reader, name: str, path: str) -> str:
    if "?" in path or path == ":memory:" or path.startswith("file:"):
        read.wrong(name, None, "an SQLite database in a file whose path has no question mark")
    return f"sqlite:///{Path(path).expanduser().absolute()}"


def _postgresql(read: _Reader, require_ssl: bool) -> str:
    host = read.text("NANGO_DB_HOST") or "localhost"
    port = read.whole("NANGO_DB_PORT", 5432, 1, 65535)
    user, password, name = (
        quote(read.text(f"NANGO_DB_{part}") or "nango", safe="") for part in ("USER", "PASSWORD", "NAME")
    )
    if host.startswith("/"):  # the folder of a Unix socket
        return _with_ssl(
            f"postgresql+psycopg://{user}:{password}@:{port}/{name}?{urlencode({'host': host})}", require_ssl
        )
    if not re.fullmatch(r"[\w.:%-]+", host):
        read.wrong("NANGO_DB_HOST", host, "a host name, an address or the folder of a Unix socket")
    where = f"[{host}]" if ":" in host else host
    return _with_ssl(f"postgresql+psycopg://{user}:{password}@{where}:{port}/{name}", require_ssl)


def _with_ssl(url: str, require_ssl: bool) -> str:
    _, _, query = url.partition("?")
    if not require_ssl or "sslmode" in dict(parse_qsl(query)):
        return url
    return f"{url}{'&' if query else '?'}sslmode=require"


def _schema(read: _Reader) -> str:
    schema = read.text("NANGO_DB_SCHEMA") or "nango"
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]{0,62}", schema) or schema.startswith("pg_"):
        wanted = "at most 63 letters, digits, _ and -, the first one a letter or _, and not pg_ at the start"
        read.wrong("NANGO_DB_SCHEMA", schema, wanted)
    return schema


def _log_level(read: _Reader) -> str:
    level = (read.text("LOG_LEVEL") or "info").lower()
    level = {"warn": "warning", "fatal": "critical"}.get(level, level)
    if level not in _LOG_LEVELS:
        read.wrong("LOG_LEVEL", level, "one of " + ", ".join(_LOG_LEVELS))
    return level.upper()


def _webhook_on(read: _Reader) -> frozenset[str]:
    """The events of webhooks: by default new data, failures, and connections that need new credentials."""
    text = read.text("NANGO_WEBHOOK_ON") or "changes,failure,auth"
    events = {event.strip().lower() for event in text.split(",")}
    if not events <= {*_WEBHOOKS}:
        read.wrong("NANGO_WEBHOOK_ON", text, f"any of {', '.join(_WEBHOOKS)}, separated by commas")
    return frozenset(events)


def _encryption_keys(read: _Reader) -> tuple[str, ...]:
    """The keys as URL-safe Base64, the newest first."""
    keys = []
    for key in read.texts("NANGO_ENCRYPTION_KEY"):
        try:
            raw = base64.b64decode(key.replace("-", "+").replace("_", "/"), validate=True)
        except binascii.Error:
            raw = b""
        if len(raw) != 32:
            read.wrong("NANGO_ENCRYPTION_KEY", None, "32 bytes as Base64: openssl rand -base64 32")
        keys.append(base64.urlsafe_b64encode(raw).decode())
    return tuple(keys)
