"""The commands that need no Dagster: what they print for people and machines, and what they say when it goes wrong."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import click
import pytest

from nango_dagster.cli import main
from nango_dagster.cli.reference import reference
from nango_dagster.config import from_body, integrations_schema_text, read_file, schema_text
from nango_dagster.settings import Settings
from nango_dagster.store import Database, connections, datasets, pruning, queue, syncs
from nango_dagster.store.changes import Cursor
from tests.commands import Cli, write_sync
from tests.conftest import ROOT
from tests.executions import PAGING, Source, execute, items, stored
from tests.fake_api import FakeApi

URL = "https://api.example.com/items"
pytestmark = pytest.mark.usefixtures("same_logging")
DOWN = "postgresql://nango:secret@127.0.0.1:1/nango"  # nothing listens there


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """The command line with a home of its own, and a database only where a command makes one."""
    return Cli({"NANGO_HOME": str(tmp_path / "home")})


@pytest.fixture
def stored_cli(settings_env: dict[str, str], db: Database) -> Cli:
    """The command line on a database that is there."""
    return Cli(settings_env)


def commands() -> list[tuple[str, click.Command]]:
    return list(_named(main))


def _named(group: click.Group, above: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        yield above + name, command
        if isinstance(command, click.Group):
            yield from _named(command, f"{above}{name} ")


# --- the whole ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "command"), commands(), ids=[name for name, _ in commands()])
def test_each_command_explains_itself_with_an_example_and_takes_the_common_options(
    name: str, command: click.Command, cli: Cli
) -> None:
    text = cli.good(*name.split(), "--help").stdout
    assert f"Example: nango-dagster {name.split()[0]}" in text
    assert "--configs DIR" in text and "--json" in text
    assert all(option.help for option in command.params if isinstance(option, click.Option))


def test_the_reference_page_is_current() -> None:
    text = (ROOT / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
    assert text == reference(main), "Write it again: `python -m nango_dagster.cli.reference docs/reference/cli.md`."


def test_it_tells_its_version(cli: Cli) -> None:
    name, version = cli.good("--version").stdout.split()
    assert name == "nango-dagster" and version[0].isdigit()


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("statsu", "There is no command 'statsu'; did you mean status?"),
        ("dryrun", "There is no command 'dryrun'; did you mean dry-run?"),
        ("xyz", "There is no command 'xyz'; there are init, validate, dry-run,"),
    ],
)
def test_a_mistyped_command_gets_a_suggestion(typed: str, said: str, cli: Cli) -> None:
    result = cli(typed)
    assert result.status == 2 and said in result.stderr


@pytest.mark.parametrize("command", [("run", "pokmon"), ("dry-run", "pokmon")])
def test_a_mistyped_sync_gets_a_suggestion(command: tuple[str, str], cli: Cli) -> None:
    write_sync("pokemon", url=URL)
    result = cli(*command)
    assert (result.status, result.stdout) == (1, "")
    assert result.stderr == "there is no sync pokmon in sync_configs; did you mean pokemon?\n"


def test_an_unknown_sync_is_answered_with_those_there_are_and_a_hint_at_broken_files(cli: Cli) -> None:
    write_sync("contacts", url=URL)
    write_sync("deals", url=5)
    result = cli("dry-run", "xyz")
    assert "there is no sync xyz in sync_configs; there are contacts." in result.stderr
    assert "Some files there are not valid; see `nango-dagster validate`." in result.stderr


def test_a_sync_whose_file_is_broken_is_not_unknown(cli: Cli) -> None:
    write_sync("deals", url=URL, methd="GET")
    result = cli("dry-run", "deals")
    assert result.status == 1
    assert "deals.yaml:3:" in result.stderr and "did you mean method?" in result.stderr


def test_without_a_config_folder_the_sentence_names_the_command_that_makes_one(cli: Cli) -> None:
    result = cli("dry-run", "pokemon")
    assert result.status == 1
    assert result.stderr.count("\n") == 1 and "`nango-dagster init` makes one" in result.stderr


def test_an_error_is_a_document_too_where_a_machine_asks(cli: Cli) -> None:
    write_sync("pokemon", url=URL)
    result = cli("dry-run", "pokmon", "--json")
    assert result.status == 1
    assert result.json == {"error": result.stderr.strip()}


def test_a_wrong_setting_is_a_sentence(cli: Cli) -> None:
    result = cli("list", LOG_LEVEL="loud")
    assert (result.status, result.stdout) == (1, "")
    assert result.stderr == "LOG_LEVEL is 'loud'; wanted one of debug, info, warning, error, critical.\n"


@pytest.mark.parametrize("arguments", [["list"], ["status"], ["tables"], ["run", "pokemon"], ["dev"], ["remove", "x"]])
def test_a_database_that_is_down_is_a_sentence_without_its_password(arguments: list[str], cli: Cli) -> None:
    write_sync("pokemon", url=URL)
    result = cli(*arguments, NANGO_DB_URL=DOWN)
    assert (result.status, result.stdout) == (1, "")
    assert result.stderr.startswith("cannot reach the database postgresql+psycopg://nango:***@127.0.0.1:1/nango")
    assert result.stderr.count("\n") <= 2 and "secret" not in result.stderr


def test_the_config_folder_comes_from_the_option_or_the_environment(cli: Cli) -> None:
    write_sync("a", "here", url=URL)
    write_sync("b", "there", url=URL)
    assert cli.good("validate", "--json", NANGO_SYNC_CONFIGS="here").json["syncs"] == ["a"]
    assert cli.good("validate", "--json", "--configs", "there", NANGO_SYNC_CONFIGS="here").json["syncs"] == ["b"]


def test_settings_are_read_from_a_dotenv_file(cli: Cli) -> None:
    write_sync("a", "here", url=URL)
    Path(".env").write_text("NANGO_SYNC_CONFIGS=here\n")
    assert cli.good("validate", "--json").json["syncs"] == ["a"]


def test_light_commands_start_without_what_is_slow_to_import(tmp_path: Path, api: FakeApi) -> None:
    source = Source(api, items(1))
    write_sync("items", url=api.url + source.path)
    code = (
        "import sys\n"
        "from nango_dagster.cli import main\n"
        "for arguments in (['init', 'new'], ['validate'], ['dry-run', 'items'], ['list'], ['status'], ['tables']):\n"
        "    main(arguments, standalone_mode=False)\n"
        "    slow = {'dagster', 'pandas', 'fastapi', 'uvicorn', 'alembic'} & set(sys.modules)\n"
        "    assert not slow, (arguments, slow)\n"
    )
    env = Cli({"NANGO_HOME": str(tmp_path / "home")}).environment()
    assert Cli(env).process("list").status == 0  # makes the tables, for which Alembic is needed
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env=env, timeout=60)


# --- init -----------------------------------------------------------------------------------------------------------


def test_init_makes_a_project_whose_sync_is_valid(cli: Cli) -> None:
    said = cli.good("init", "new")
    assert "made  new/sync_configs/pokemon.yaml" in said.stdout
    assert "Next: cd new && nango-dagster dry-run pokemon" in said.stdout
    files = {str(path.relative_to("new")) for path in Path("new").rglob("*") if path.is_file()}
    assert files == {"sync_configs/pokemon.yaml", ".env.example", "workspace.yaml", ".gitignore"}
    assert Path("new/.gitignore").read_text().splitlines() == [".nango/", ".env"]
    (sync,) = read_file("new/sync_configs/pokemon.yaml")
    assert sync.url == "${env.DEMO_API_URL}/api/v2/pokemon" and sync.mode == "upsert"


def test_the_settings_of_a_new_project_are_read_once_they_are_uncommented(cli: Cli) -> None:
    cli.good("init")
    text = Path(".env.example").read_text()
    uncommented = [line.removeprefix("# ") for line in text.splitlines() if line.startswith("# ") and "=" in line]
    Path(".env").write_text("\n".join(uncommented).replace("API_TOKEN=", "API_TOKEN=t1"))
    settings = Settings.from_env({}, dotenv=Path(".env"))
    assert settings.redacted_db_url == "postgresql+psycopg://nango:***@localhost:5432/nango"
    assert settings.env == {"API_TOKEN": "t1"}


def test_init_writes_over_nothing(cli: Cli) -> None:
    write_sync("pokemon", url=URL)
    before = Path("sync_configs/pokemon.yaml").read_text()
    Path(".gitignore").write_text("*.log")
    document = cli.good("init", "--json").json
    assert document["kept"] == ["sync_configs/pokemon.yaml"]
    assert document["created"] == [".env.example", "workspace.yaml", ".gitignore (.nango/ .env)"]
    assert Path("sync_configs/pokemon.yaml").read_text() == before
    assert Path(".gitignore").read_text() == "*.log\n.nango/\n.env\n"
    again = cli.good("init", "--json").json
    assert again["created"] == [] and len(again["kept"]) == 4


def test_init_in_a_project_with_a_pyproject_says_what_to_put_there(cli: Cli) -> None:
    Path("pyproject.toml").touch()
    assert '[tool.dagster]\n  module_name = "nango_dagster.definitions"' in cli.good("init").stdout


def test_init_where_it_cannot_write_says_so(cli: Cli) -> None:
    Path("sync_configs").touch()
    result = cli("init")
    assert result.status == 1 and result.stderr == "cannot write sync_configs: File exists.\n"


def test_the_first_sync_reads_the_sample_api_that_the_command_serves(cli: Cli) -> None:
    cli.good("init")
    document = cli.good("dry-run", "pokemon", "--pages", "5", "--json").json
    assert document["keys"] == {"unique_key": "name", "distinct": 251, "repeated": 0, "missing": 0}
    assert document["stop"] == {"reason": "no_next_url", "complete": True}


def test_the_first_sync_reads_the_api_that_the_environment_names(cli: Cli, api: FakeApi) -> None:
    cli.good("init")
    api.route("/api/v2/pokemon", lambda request: {"next": None, "results": [{"name": "missingno"}]})
    document = cli.good("dry-run", "pokemon", "--json", NANGO_ENV_DEMO_API_URL=api.url).json
    assert document["records"] == [{"name": "missingno"}]


# --- validate -------------------------------------------------------------------------------------------------------


def test_validate_names_file_line_field_and_what_is_allowed(cli: Cli) -> None:
    write_sync("good", url=URL)
    Path("sync_configs/bad.yaml").write_text(f"url: {URL}\nmethod: FETCH\n")
    result = cli("validate")
    assert result.status == 1
    assert result.stdout.startswith('sync_configs/bad.yaml:2:1: method is "FETCH"; wanted ') and "POST" in result.stdout
    assert result.stderr == "1 problem; 1 sync valid.\n"


def test_validate_gives_machines_all_problems(cli: Cli) -> None:
    Path("sync_configs").mkdir()
    Path("sync_configs/a.yaml").write_text(f"url: {URL}\nmethod: FETCH\nretries: -1\n")
    Path("sync_configs/b.yaml").write_text("url: [\n")
    result = cli("validate", "--json")
    assert result.status == 1 and result.json["valid"] is False
    found = [(one["file"], one["line"], one["field"], one["found"]) for one in result.json["problems"]]
    assert ("sync_configs/a.yaml", 2, "method", "FETCH") in found
    assert ("sync_configs/a.yaml", 3, "retries", -1) in found
    assert any(file == "sync_configs/b.yaml" for file, *_ in found)
    assert all(one["sentence"] for one in result.json["problems"])


def test_validate_has_nothing_to_say_about_good_configs(cli: Cli) -> None:
    write_sync("a", url=URL)
    write_sync("b", url=URL)
    assert cli.good("validate").stdout == "2 syncs valid: a, b\n"
    names = {"syncs": ["a", "b"], "integrations": []}
    assert cli.good("validate", "--json").json == {"valid": True, **names, "problems": [], "warnings": []}


def test_validate_warns_of_a_variable_without_a_value_and_stays_good(cli: Cli) -> None:
    write_sync("a", url=URL, headers={"Authorization": "Bearer ${env.TOKEN}"})
    sentence = "a: ${env.TOKEN} has no value here; set NANGO_ENV_TOKEN before it runs."
    result = cli("validate")
    assert (result.status, result.stdout, result.stderr) == (0, "1 sync valid: a\n", sentence + "\n")
    assert cli.good("validate", "--json").json["warnings"] == [sentence]
    assert cli.good("validate", "--json", NANGO_ENV_TOKEN="t").json["warnings"] == []


@pytest.mark.parametrize("name", ["Host", "content-length", "Transfer-Encoding", "Connection"])
def test_validate_refuses_a_header_that_only_the_client_sets(cli: Cli, name: str) -> None:
    Path("sync_configs").mkdir()
    Path("sync_configs/a.yaml").write_text(f"url: {URL}\nheaders:\n  {name}: x\n")
    result = cli("validate")
    assert result.status == 1
    assert f"headers without {name}, which the HTTP client sets itself" in result.stdout


def test_validate_finds_a_transform_that_cannot_be_loaded(cli: Cli) -> None:
    write_sync("a", url=URL, transform="no_such_module_anywhere:clean")
    result = cli("validate", "--json")
    (problem,) = result.json["problems"]
    assert result.status == 1 and problem["field"] == "transform"
    assert problem["found"] == "no_such_module_anywhere:clean"


def test_validate_prints_the_schema(cli: Cli) -> None:
    assert cli.good("validate", "--schema").stdout == schema_text()
    assert cli.good("validate", "--schema", "integrations").stdout == integrations_schema_text()


def test_validate_without_a_folder_fails(cli: Cli) -> None:
    result = cli("validate")
    assert result.status == 1 and "is no folder" in result.stdout


# --- dry-run --------------------------------------------------------------------------------------------------------


@pytest.fixture
def source(api: FakeApi) -> Source:
    """A list of ten records on four pages, with a config of it."""
    source = Source(api, items(*range(1, 11), price=1.10, at="2026-01-02"), path="/items")
    write_sync("items", url=api.url + source.path, unique_key="id", retries=0, **PAGING)
    return source


def test_dry_run_shows_records_columns_keys_and_the_next_request(cli: Cli, source: Source) -> None:
    text = cli.good("dry-run", "items").stdout
    assert text.startswith("items: 3 records on 1 page\n{\n")
    assert '"name": "item 1"' in text
    assert [line.split() for line in text.splitlines() if "timestamp" in line] == [["at", "timestamp", "at"]]
    assert "keys: 3 different values of id\n" in text
    assert f"next: GET {source.api.url}/items?page=2\n" in text
    assert len(source.api.requests) == 1


def test_dry_run_gives_machines_everything(cli: Cli, source: Source) -> None:
    found = cli.good("dry-run", "items", "--pages", "2", "--json").json
    assert list(found) == [
        "sync",
        "parent", "pages", "requests", "records", "rejected", "columns", "keys", "misfits", "next_request",
        "stop", "rules", "doubt", "warnings", "error",
    ]  # fmt: skip
    assert found["records"] == items(*range(1, 7), price=1.10, at="2026-01-02")
    assert found["columns"] == [
        {"name": "id", "type": "number", "path": "id"},
        {"name": "name", "type": "string", "path": "name"},
        {"name": "price", "type": "number", "path": "price"},
        {"name": "at", "type": "timestamp", "path": "at"},
    ]
    assert found["next_request"] == f"GET {source.api.url}/items?page=3"
    assert found["stop"] == {"reason": "max_pages", "complete": False}


def test_dry_run_says_why_it_stopped(cli: Cli, source: Source) -> None:
    assert "end: the answer has no cursor for a next page\n" in cli.good("dry-run", "items", "--pages", "9").stdout


def test_dry_run_never_fetches_more_than_the_sync_would(cli: Cli, source: Source) -> None:
    write_sync("few", url=source.api.url + source.path, max_pages=2, **PAGING)
    assert cli.good("dry-run", "few", "--pages", "9", "--json").json["pages"] == 2


def test_dry_run_opens_no_database_and_writes_nothing(cli: Cli, source: Source, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    cli.good("dry-run", "items", NANGO_DB_URL=DOWN)
    assert sorted(tmp_path.rglob("*")) == before


def test_dry_run_shows_the_good_pages_before_the_one_that_fails(cli: Cli, source: Source) -> None:
    source.broken[3] = (500, {}, {"error": "boom"})
    result = cli("dry-run", "items", "--pages", "4")
    assert result.status == 1
    assert result.stdout.startswith("items: 6 records on 2 pages")
    assert "page=3 answered 500" in result.stderr and "Traceback" not in result.stderr
    document = cli("dry-run", "items", "--pages", "4", "--json").json
    assert document["pages"] == 2 and "answered 500" in document["error"]


def test_dry_run_of_an_api_that_fails_at_once_is_a_sentence(cli: Cli, source: Source) -> None:
    source.broken[1] = (401, {}, {"error": "who are you?"})
    result = cli("dry-run", "items")
    assert (result.status, result.stdout) == (1, "")
    assert "answered 401" in result.stderr
    assert cli("dry-run", "items", "--json").json["records"] == []


def test_dry_run_names_records_that_cannot_be_stored(cli: Cli, api: FakeApi) -> None:
    api.route("/odd", b'[{"id": 1}, {"id": 1}, {"name": "no id"}, {"id": NaN}]')
    write_sync("odd", url=f"{api.url}/odd", unique_key="id")
    text = cli.good("dry-run", "odd").stdout
    assert "not readable: record 3 of page 1" in text
    assert "1 different value of id; 1 record came more than once; 1 record without one cannot be stored" in text


def test_dry_run_keeps_numbers_as_they_were_sent(cli: Cli, api: FakeApi) -> None:
    api.route("/exact", b'[{"id": 1, "price": 1.10, "big": 12345678901234567890123}]')
    write_sync("exact", url=f"{api.url}/exact")
    assert "12345678901234567890123" in cli.good("dry-run", "exact", "--json").stdout
    api.route("/exact", b'[{"id": 1, "price": 1.10}]')
    assert '"price": 1.10' in cli.good("dry-run", "exact").stdout


def test_dry_run_maps_as_the_config_says(cli: Cli, source: Source) -> None:
    Path("clean.py").write_text("def clean(record):\n    return {'upper': record['name'].upper()}\n")
    write_sync("other", url=source.api.url + source.path, transform="clean:clean", metadata={"company": 7})
    columns = cli.good("dry-run", "other", "--json").json["columns"]
    assert [(column["name"], column["type"]) for column in columns] == [("company", "number"), ("upper", "string")]
    write_sync("raw", url=source.api.url + source.path, auto_mapping=False)
    assert "auto_mapping is off" in cli.good("dry-run", "raw").stdout


def test_dry_run_shows_no_secret_and_names_one_that_is_missing(cli: Cli, source: Source) -> None:
    write_sync("secret", url=source.api.url + source.path, query_params={"token": "${env.TOKEN}"}, **PAGING)
    result = cli("dry-run", "secret")
    assert result.status == 1 and "set NANGO_ENV_TOKEN" in result.stderr
    said = cli.good("dry-run", "secret", NANGO_ENV_TOKEN="hush-hush-42")
    assert "page=2" in said.stdout and "hush-hush-42" not in said.stdout


def test_what_an_api_sends_cannot_steer_the_terminal(cli: Cli, api: FakeApi) -> None:
    api.route("/esc", [{"id": 1, "\u001b[2J[bold]x": "\u009b2J[red]"}])
    write_sync("esc", url=f"{api.url}/esc")
    text = cli.good("dry-run", "esc").stdout
    assert "\u001b" not in text and "\u009b" not in text and "[bold]x" in text


def test_dry_run_shows_the_list_of_an_example_parent(stored_cli: Cli, api: FakeApi) -> None:
    api.route("/issues", [{"id": 7, "number": 70}, {"id": 8, "number": 80}])
    api.route("/comments", lambda request: [{"id": 1, "issue": int(request.params["issue"])}])
    each = {"sync": "issues", "path": "number", "field": "issue_number"}
    write_sync("issues", url=f"{api.url}/issues", unique_key="id")
    write_sync("comments", url=f"{api.url}/comments?issue=${{parent.number}}", unique_key="id", for_each=each)
    shown = stored_cli.good("dry-run", "comments", "--json").json
    assert (shown["parent"], shown["records"]) == (
        {"id": 7, "number": 70},
        [{"id": 1, "issue": 70, "issue_number": 70}],
    )
    text = stored_cli.good("dry-run", "comments").stdout
    assert "parent: 70 of issues, the first record of its API; in its children it is issue_number" in text
    stored_cli.good("run", "issues")
    api.route("/issues", [])
    assert "of issues, a stored record" in stored_cli.good("dry-run", "comments").stdout


# --- list and status ------------------------------------------------------------------------------------------------


def test_list_names_configured_posted_disabled_and_forgotten_syncs(stored_cli: Cli, db: Database) -> None:
    write_sync("mine", url=f"{URL}?api_key=hush", unique_key="id", frequency=120, mapped_table="mine")
    write_sync("off", url=URL, enabled=False)
    gone = from_body({"name": "gone", "url": URL, "cron": "0 6 * * *", "timezone": "Europe/Berlin"})
    syncs.register(db, [gone])
    row = syncs.post(db, from_body({"name": "posted", "url": URL}), named=True)
    found = {one["name"]: one for one in stored_cli.good("list", "--json").json}
    assert {name: (one["origin"], one["configured"], one["enabled"]) for name, one in found.items()} == {
        "mine": ("file", True, True),
        "off": ("file", True, False),
        "gone": ("file", False, True),
        "posted": ("http", True, True),
    }
    assert found["mine"] == {
        "name": "mine",
        "id": None,
        "integration": "default",
        "origin": "file",
        "project": None,
        "configured": True,
        "enabled": True,
        "url": f"{URL}?api_key=***",
        "mode": "upsert",
        "unique_key": "id",
        "schedule": "every 2 hours",
        "table": "mine",
    }
    assert found["gone"]["schedule"] == "0 6 * * * Europe/Berlin"
    assert (found["posted"]["id"], found["posted"]["table"]) == (row.id, f"_nango_sync_{row.id}")
    text = stored_cli.good("list").stdout
    assert "not configured" in text and "file, disabled" in text and "posted" in text


def test_list_shows_the_integrations_of_files_and_those_that_are_only_stored(stored_cli: Cli, db: Database) -> None:
    Path("sync_configs").mkdir()
    Path("sync_configs/integrations.yaml").write_text(
        "crm: {provider: hubspot, base_url: 'https://a:pw@api.example.com'}"
    )
    write_sync("deals", url="/deals", integration="crm")
    connections.add(db, None, connections.NewConnection("github", "acme"))
    shown = {"name": "crm", "display_name": "crm", "provider": "hubspot", "base_url": "https://***@api.example.com"}
    only_stored = {"name": "github", "display_name": "github", "provider": "github", "base_url": None}
    assert stored_cli.good("list", "--integrations", "--json").json == [
        {**shown, "declared": True, "syncs": ["deals"]},
        {**only_stored, "declared": False, "syncs": []},
    ]
    text = stored_cli.good("list").stdout
    assert "hubspot" in text and "github" not in text
    assert "https://***@api.example.com/deals" in text


def test_a_broken_file_hides_no_sync_from_the_list(cli: Cli) -> None:
    write_sync("good", url=URL)
    write_sync("bad", url=5)
    result = cli("list", "--json")
    assert result.status == 0 and [one["name"] for one in result.json] == ["good"]
    assert "bad.yaml:2:3: url" in result.stderr


def test_nothing_is_listed_as_nothing(cli: Cli) -> None:
    Path("sync_configs").mkdir()
    assert cli.good("list").stdout == "no syncs\n"
    assert cli.good("status", "--json").json == []
    assert cli.good("tables").stdout == "no mapped tables yet\n"


def test_status_of_a_sync_that_never_ran(stored_cli: Cli, db: Database) -> None:
    write_sync("items", url=URL)
    (new,) = stored_cli.good("status", "--json").json
    assert (new["state"], new["last_job"], new["error"], new["next_run_at"]) == ("not loaded yet", None, None, None)
    assert "no process has loaded its file yet" in new["no_next_run"]
    syncs.register(db, read_file("sync_configs/items.yaml"))
    (waiting,) = stored_cli.good("status", "--json").json
    assert waiting["state"] == "scheduled"
    assert datetime.fromisoformat(waiting["next_run_at"]) <= datetime.now(timezone.utc)
    assert "due now" in stored_cli.good("status").stdout


def test_status_tells_how_the_last_job_went_and_when_the_next_one_is(
    stored_cli: Cli, db: Database, settings: Settings, source: Source
) -> None:
    (sync,) = read_file("sync_configs/items.yaml")
    row = syncs.register(db, [sync])["items"]
    outcome = execute(db, settings, row, run_id="run-1")
    (state,) = stored_cli.good("status", "--json").json
    assert list(state) == ["name", "integration", "state", "next_run_at", "no_next_run", "error", "last_job"]
    assert (state["state"], state["error"]) == ("scheduled", None)
    assert datetime.fromisoformat(state["next_run_at"]) > datetime.now(timezone.utc)
    job = state["last_job"]
    assert (job["id"], job["run_id"], job["status"], job["added"], job["pages"]) == (
        outcome.job_id, "run-1", "succeeded", 10, 4,
    )  # fmt: skip
    assert job["stop_reason"] == "no_cursor" and job["warnings"] == []


def test_status_shows_the_error_of_a_failed_job_once(
    stored_cli: Cli, db: Database, settings: Settings, source: Source
) -> None:
    source.broken[3] = (500, {}, {"error": "boom"})
    (sync,) = read_file("sync_configs/items.yaml")
    row = syncs.register(db, [sync])["items"]
    execute(db, settings, row)
    (state,) = stored_cli.good("status", "--json").json
    assert state["last_job"]["status"] == "failed" and "answered 500" in state["error"]
    last_line = stored_cli.good("status").stdout.splitlines()[-1]
    assert last_line.startswith("items: GET ") and "answered 500" in last_line


def test_status_names_states(stored_cli: Cli, db: Database) -> None:
    for name in ("running", "paused", "scheduled"):
        write_sync(name, url=URL)
    write_sync("disabled", url=URL, enabled=False)
    known = [from_body({"name": name, "url": URL}) for name in ("running", "paused", "scheduled", "not-configured")]
    rows = syncs.register(db, known)
    worker = queue.start_worker(db, rows["running"].id, "run-1")
    assert queue.claim(db, worker, limit=1, slot=None, force=True)
    queue.set_state(db, rows["paused"].id, "PAUSED")
    states = {
        one["name"]: (one["state"], one["next_run_at"] is None) for one in stored_cli.good("status", "--json").json
    }
    assert states == {
        "running": ("running", False),
        "paused": ("paused", True),
        "scheduled": ("scheduled", False),
        "disabled": ("disabled", True),
        "not-configured": ("not configured", True),
    }


# --- tables and remove ----------------------------------------------------------------------------------------------


@pytest.fixture
def filled(stored_cli: Cli, db: Database, settings: Settings, source: Source) -> Cli:
    """The command line on a database with ten records of a sync."""
    write_sync("items", url=source.api.url + source.path, unique_key="id", mapped_table="things", **PAGING)
    row = syncs.register(db, read_file("sync_configs/items.yaml"))["items"]
    assert execute(db, settings, row).status == "succeeded"
    return stored_cli


def test_tables_shows_columns_types_paths_and_row_counts(filled: Cli) -> None:
    (table,) = filled.good("tables", "--json").json
    assert (table["name"], table["rows"], table["syncs"]) == ("things", 10, ["items"])
    columns = {column["name"]: (column["type"], column["path"]) for column in table["columns"]}
    assert columns == {
        "id": ("number", "id"),
        "name": ("string", "name"),
        "price": ("number", "price"),
        "at": ("timestamp", "at"),
    }
    assert filled.good("tables").stdout.startswith("things: 10 rows, filled by items\n")


def test_tables_rebuild_maps_the_stored_records_as_the_config_says_now(filled: Cli, db: Database) -> None:
    path = Path("sync_configs/items.yaml")
    path.write_text(json.dumps({**json.loads(path.read_text()), "metadata": {"company": 7}}))
    said = filled.good("tables", "rebuild", "items")
    assert said.stdout == "items: mapped 10 records into things.\n"
    row = syncs.by_name(db, "items")
    assert row is not None and {one["company"] for one in stored(db, row).mapped} == {7}
    assert filled.good("tables", "--json", "rebuild", "items").json == {
        "sync": "items",
        "types": [],
        "table": "things",
        "rows": 10,
        "pruned": 0,
        "misfits": {},
    }
    with db.connect() as connection:
        (dataset,) = datasets.of_sync(connection, row.id)
    pruning.prune(db, dataset, Cursor(datetime(2999, 1, 1, tzinfo=timezone.utc), ""))
    said = filled.good("tables", "rebuild", "items")
    assert said.stdout == "items: mapped 0 records into things; the rows of 10 pruned records stay unchanged.\n"
    assert filled.good("tables").stdout.startswith("things: 10 rows, filled by items\n")


def test_tables_rebuild_keeps_out_of_an_execution(filled: Cli, db: Database) -> None:
    row = syncs.by_name(db, "items")
    assert row is not None
    worker = queue.start_worker(db, row.id, "run-1")
    assert queue.claim(db, worker, limit=1, slot=None, force=True)
    result = filled("tables", "rebuild", "items")
    assert result.status == 1 and "is being synced by run run-1" in result.stderr


def test_tables_rebuild_of_a_sync_without_a_table_is_refused(filled: Cli) -> None:
    write_sync("raw", url=URL, auto_mapping=False)
    result = filled("tables", "rebuild", "raw")
    assert result.status == 1 and "auto_mapping: false" in result.stderr
    result = filled("tables", "rebuild", "itens")
    assert result.status == 1 and "did you mean items?" in result.stderr


def test_remove_does_nothing_before_it_is_told_that_it_deletes(filled: Cli, db: Database) -> None:
    for arguments in ([], ["--with-data"], ["--with-data", "--json"]):
        result = filled("remove", "items", *arguments, answer="n\n")
        assert result.status == 1 and "Nothing was done." in result.stderr
    assert "10 records" in filled("remove", "items").stderr
    assert syncs.by_name(db, "items") is not None


@pytest.mark.parametrize("way", ["asked", "told"])
def test_remove_deletes_a_sync_with_its_data(way: str, filled: Cli, db: Database) -> None:
    row = syncs.by_name(db, "items")
    assert row is not None
    Path("sync_configs/items.yaml").unlink()
    if way == "asked":
        assert filled("remove", "items", "--with-data", answer="y\n").status == 0
    else:
        said = filled.good("remove", "items", "--with-data", "--yes", "--json")
        assert said.json == {"sync": "items", "removed": True, "records": 10}
    assert syncs.by_name(db, "items") is None
    left = stored(db, row)
    assert (left.live, left.mapped) == ([], [])


def test_remove_warns_when_the_config_is_still_there(filled: Cli) -> None:
    result = filled("remove", "items", "--with-data", "--yes")
    assert result.status == 0 and "Its config is still in sync_configs" in result.stderr


def test_remove_of_an_unknown_sync_gets_a_suggestion(filled: Cli) -> None:
    result = filled("remove", "item", "--with-data", "--yes")
    assert (result.status, result.stderr) == (1, "there is no sync item in the database; did you mean items?\n")


# --- dev and api ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["--port", "--api-port"])
def test_dev_says_which_port_is_in_use(option: str, cli: Cli, api: FakeApi) -> None:
    write_sync("items", url=URL)
    port = api.url.rpartition(":")[2]
    result = cli("dev", option, port)
    assert (result.status, result.stderr) == (1, f"port {port} is in use; choose another with {option}.\n")


def test_dev_wants_two_ports(cli: Cli) -> None:
    result = cli("dev", "--port", "3999", "--api-port", "3999")
    assert result.status == 1 and "wanted two ports" in result.stderr


def test_the_api_without_a_key_listens_on_this_machine_only(cli: Cli, api: FakeApi) -> None:
    result = cli("api", "--host", "0.0.0.0", "--port", "3999")
    assert result.status == 1 and "Set NANGO_SECRET_KEY" in result.stderr
    result = cli("api", "--port", api.url.rpartition(":")[2])
    assert result.status == 1 and "in use" in result.stderr


def test_a_run_of_a_disabled_sync_is_refused(cli: Cli) -> None:
    write_sync("items", url=URL, enabled=False)
    result = cli("run", "items")
    assert result.status == 1 and "items has enabled: false" in result.stderr


# --- options, colors, completion ------------------------------------------------------------------------------------


def test_common_options_work_before_and_after_the_command(cli: Cli) -> None:
    write_sync("items", "elsewhere", url=URL)
    after = cli.good("validate", "--configs", "elsewhere", "--json")
    assert after.json["syncs"] == ["items"]
    for arguments in (
        ["--configs", "elsewhere", "--json", "validate"],
        ["--json", "validate", "--configs", "elsewhere"],
    ):
        assert cli.good(*arguments).stdout == after.stdout
    assert cli.good("--json", "connections", "list").json == cli.good("connections", "list", "--json").json == []


@pytest.mark.parametrize(("env", "is_red"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_a_failed_state_is_red_on_a_terminal_unless_no_color_is_set(
    env: dict[str, str], is_red: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rich.console import Console

    from nango_dagster.cli.command import grid

    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    console = Console(file=io.StringIO(), force_terminal=True, width=80, color_system="standard")
    with console.capture() as capture:
        rows = [("items", "failed, 1 run lost", "failed 08:30"), ("failed-orders", "scheduled", "succeeded 08:30")]
        console.print(grid(["sync", "state", "last job"], rows))
    assert capture.get().count("\x1b[31mfailed") == (2 if is_red else 0)


@pytest.mark.parametrize(
    "command", ["adopt", "dry-run", "records", "rejected", "remove", "run", "status", "tables rebuild", "trigger"]
)
def test_the_shell_completes_the_names_of_syncs(command: str) -> None:
    from click.shell_completion import ShellComplete

    from nango_dagster.cli import main

    write_sync("items", url=URL)
    write_sync("item-prices", url=URL)
    write_sync("pokemon", url=URL)
    completion = ShellComplete(main, {}, "nango-dagster", "_NANGO_DAGSTER_COMPLETE")
    values = [item.value for item in completion.get_completions(command.split(), "it")]
    assert values == ["item-prices", "items"]
    assert "run" in [item.value for item in completion.get_completions([], "r")]
