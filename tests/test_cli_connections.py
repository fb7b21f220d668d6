"""`connections` and `variants`: accounts are made, shown without their secrets, and removed with all that they had."""

from __future__ import annotations

import base64
import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nango_dagster import runs
from nango_dagster.config import read_file
from nango_dagster.settings import Settings
from nango_dagster.store import Database, announcing, connections, credential_state, open_database, queue, syncs
from nango_dagster.store.announcing import OwnUrl
from nango_dagster.store.sync_row import SyncRow
from nango_dagster.vault import Vault
from tests.commands import Cli, Said, write_sync
from tests.executions import PAGING, Source, items
from tests.fake_api import FakeApi

pytestmark = pytest.mark.usefixtures("same_logging")
URL = "https://api.example.com/items"
KEY = base64.b64encode(b"k" * 32).decode()
SECRET = "s3cr3t-value"
GITHUB = ("--integration", "github")
ACME = (*GITHUB, "--connection", "acme")


@pytest.fixture
def cli(settings_env: dict[str, str], db: Database) -> Cli:
    """The command line with a hourly sync of an integration, and a key for credentials."""
    write_sync("issues", url=URL, integration="github", unique_key="id")
    return Cli({**settings_env, "NANGO_ENCRYPTION_KEY": KEY})


@pytest.fixture
def vault(settings_env: dict[str, str]) -> Vault:
    return Vault.open(Settings.from_env({**settings_env, "NANGO_ENCRYPTION_KEY": KEY}, dotenv=None))


def row_of(db: Database, name: str = "issues") -> SyncRow:
    row = syncs.by_name(db, name)
    assert row is not None
    return row


def refused(said: Said, sentence: str) -> None:
    """It ended with status 1 and this sentence, and shows no secret."""
    assert (said.status, said.stdout) == (1, ""), said
    assert sentence in said.stderr and SECRET not in said.stderr, said.stderr


# --- add --------------------------------------------------------------------------------------------------------------


def test_a_new_connection_gets_every_sync_of_its_integration_in_the_same_step(cli: Cli, db: Database) -> None:
    write_sync("later", url=URL, integration="github", auto_start=False)
    write_sync("deals", url=URL, integration="hubspot")
    said = cli.good("connections", "add", *ACME, "--metadata", '{"region": "eu"}', "--config", '{"a": 1}')
    assert said.stdout.splitlines() == [
        "Added acme to github.",
        "issues runs for each new connection within seconds where `nango-dagster dev` or a Dagster daemon is up.",
    ]
    states = {
        (row.name, one.connection_id): one.state for row in syncs.all(db) for one in queue.schedules(db, [row.id])
    }
    assert states == {("issues", "acme"): "STARTED", ("later", "acme"): "PAUSED"}
    row = connections.get(db, "github", "acme")
    assert row is not None and (row.metadata, row.config, row.has_credentials) == ({"region": "eu"}, {"a": 1}, False)
    again = cli.good("connections", "add", *GITHUB, "--connection", "bolt", "--json")
    assert again.json == {"integration": "github", "connection_id": "bolt", "created": True, "syncs": ["issues"]}


@pytest.mark.parametrize("way", ["file", "-"])
def test_credentials_come_from_a_file_or_standard_input_and_are_encrypted(
    cli: Cli, db: Database, vault: Vault, way: str
) -> None:
    document = json.dumps({"type": "API_KEY", "apiKey": SECRET})
    Path("acme.json").write_text(document)
    said = cli("connections", "add", *ACME, "--credentials", "acme.json" if way == "file" else "-", answer=document)
    assert (said.status, said.stderr) == (0, "") and SECRET not in said.stdout
    assert connections.credentials(db, vault, "github", "acme") == {"type": "API_KEY", "apiKey": SECRET}


def test_a_connection_that_is_there_is_changed_only_when_that_is_said(cli: Cli, db: Database, vault: Vault) -> None:
    connections.add(
        db,
        vault,
        connections.NewConnection("github", "acme", credentials={"type": "BEARER", "token": "old"}, metadata={"a": 1}),
    )
    new = json.dumps({"type": "BEARER", "token": SECRET})
    command = ("connections", "add", *ACME, "--credentials", "-")
    refused(cli(*command, answer=new), 'github has a connection "acme" already; say replace (--replace)')
    said = cli(*command, "--replace", "--json", answer=new)
    assert said.status == 0 and said.json == {"integration": "github", "connection_id": "acme", "created": False}
    row = connections.get(db, "github", "acme")
    assert row is not None and row.metadata == {"a": 1}
    assert connections.credentials(db, vault, "github", "acme") == {"type": "BEARER", "token": SECRET}


@pytest.mark.parametrize(
    ("options", "answer", "sentence"),
    [
        (["--metadata", "{"], None, "--metadata is no JSON: Expecting property name"),
        (["--metadata", "[1]"], None, '--metadata is a list; wanted a JSON object such as {"region": "eu"}.'),
        (["--metadata", '{"a": NaN}'], None, "--metadata is no JSON: NaN is no JSON number"),
        (["--metadata", "[" * 100_000], None, "--metadata is no JSON: it is nested too deeply"),
        (["--metadata", '{"token": "***"}'], None, "--metadata has ***, which stands for a secret"),
        (["--metadata", '{"$sealed": "x"}'], None, "--metadata has $sealed, the name under which secrets are kept"),
        (["--config", "7"], None, "--config is a number; wanted a JSON object"),
        (["--credentials", "none.json"], None, "cannot read none.json: No such file or directory."),
        (["--credentials", "-"], f"{{{SECRET}", "standard input is no JSON: "),
        (["--credentials", "-"], f'["{SECRET}"]', "wanted a JSON object"),
        (["--credentials", "-"], f'{{"type": "BASIC", "password": "{SECRET}"}}', "of type BASIC lack username"),
        (["--credentials", "-"], f'{{"type": "KEY", "x": "{SECRET}"}}', "have the type 'KEY'; wanted one of API_KEY"),
    ],
)
def test_what_is_no_json_of_the_right_kind_is_a_sentence(
    cli: Cli, db: Database, options: list[str], answer: str | None, sentence: str
) -> None:
    refused(cli("connections", "add", *ACME, *options, answer=answer), sentence)
    assert connections.list_connections(db) == []


def test_a_file_that_is_no_text_is_a_sentence(cli: Cli) -> None:
    Path("bad.json").write_bytes(b"\xff\xfe{")
    refused(cli("connections", "add", *ACME, "--credentials", "bad.json"), "bad.json is not UTF-8 text")
    Path("bad.json").write_text(f"{{{SECRET}")
    refused(cli("connections", "add", *ACME, "--credentials", "bad.json"), "bad.json is no JSON: ")


def test_a_name_that_is_none_is_a_sentence(cli: Cli) -> None:
    refused(cli("connections", "add", *GITHUB, "--connection", " "), "is no name of connection; wanted 1 to 255 bytes")


def test_without_a_key_sqlite_gets_one_and_postgresql_gets_no_credentials(cli: Cli, db: Database) -> None:
    command = ("connections", "add", *ACME, "--credentials", "-")
    said = cli(*command, answer=json.dumps({"token": SECRET}), NANGO_ENCRYPTION_KEY="")
    if db.engine.name == "postgresql":
        refused(said, "NANGO_ENCRYPTION_KEY is not set")
        assert connections.list_connections(db) == []
    else:
        assert said.status == 0 and "created the key" in said.stderr and "keep a copy elsewhere" in said.stderr


def test_who_runs_for_an_integration_without_syncs_is_told(cli: Cli) -> None:
    said = cli.good("connections", "add", "--integration", "githb", "--connection", "acme")
    assert said.stdout.endswith("No sync with integration: githb starts by itself yet; did you mean github?\n")


# --- import -----------------------------------------------------------------------------------------------------------


def lines(*documents: dict[str, Any]) -> str:
    return "\n".join(json.dumps(document) for document in documents) + "\n\n"


@pytest.mark.parametrize("shape", ["lines", "list"])
def test_thousands_are_imported_in_one_go(cli: Cli, db: Database, vault: Vault, shape: str) -> None:
    connections.add(db, None, connections.NewConnection("github", "c7", metadata={"old": 1}))
    documents = [
        {"integration": "github", "connection_id": f"c{n}", "credentials": {"key": SECRET}, "metadata": {"n": n}}
        for n in range(1200)
    ]
    Path("all").write_text(lines(*documents) if shape == "lines" else json.dumps(documents, indent=1))
    said = cli.good("connections", "import", "all")
    assert said.stdout.startswith("Added 1,199 connections and changed 1.\nissues runs for each new connection")
    assert len(queue.schedules(db, [row_of(db).id])) == 1200
    assert connections.credentials(db, vault, "github", "c1199") == {"key": SECRET}
    found = connections.get(db, "github", "c7")
    assert found is not None and found.metadata == {"n": 7}


def test_an_import_again_changes_nothing_but_what_is_named(cli: Cli, db: Database) -> None:
    text = lines({"integration": "github", "connection_id": "acme", "metadata": {"a": 1}})
    assert cli("connections", "import", "-", "--json", answer=text).json == {
        "created": 1, "changed": 0, "integrations": ["github"],
    }  # fmt: skip
    again = cli("connections", "import", "-", answer=lines({"integration": "github", "connection_id": "acme"}))
    assert again.stdout == "Added 0 connections and changed 1.\n"
    row = connections.get(db, "github", "acme")
    assert row is not None and row.metadata == {"a": 1}


def test_what_is_wrong_in_an_import_is_told_by_line_and_nothing_is_done(cli: Cli, db: Database) -> None:
    Path("many.jsonl").write_text(
        lines(
            {"integration": "github", "connection_id": "acme"},
            {"integration": "github"},
            {"integration": "github", "connection_id": 7},
            {"integration": "github", "connection_id": "a", "metdata": {}},
            {"integration": "github", "connection_id": "acme"},
            {"integration": "github", "connection_id": "b", "credentials": {"type": "BEARER", "tken": SECRET}},
            {"integration": "github", "connection_id": "c", "metadata": "x"},
        )
        + f"{{{SECRET}\n7\n"
    )
    said = cli("connections", "import", "many.jsonl")
    assert (said.status, said.stdout) == (1, "") and SECRET not in said.stderr
    assert said.stderr.splitlines() == [
        "many.jsonl:2: connection_id is missing; wanted text.",
        "many.jsonl:3: connection_id is a number; wanted text.",
        'many.jsonl:4: "metdata" is no field of a connection; did you mean metadata?',
        'many.jsonl:5: github "acme" is in line 1 already.',
        "many.jsonl:6: credentials of type BEARER lack token; docs/reference/connections.md shows them.",
        'many.jsonl:7: metadata is text; wanted a JSON object such as {"region": "eu"}.',
        "many.jsonl:9: the line is no JSON: Expecting property name enclosed in double quotes at line 1, column 2.",
        "many.jsonl:10: a connection is a number; wanted a JSON object with integration and connection_id.",
    ]
    assert connections.list_connections(db) == []


def test_a_list_that_is_wrong_is_told_by_item_and_not_without_end(cli: Cli) -> None:
    said = cli("connections", "import", "-", answer=json.dumps([{"integration": "github"}] * 30))
    found = said.stderr.splitlines()
    assert found[0] == "standard input: item 1: connection_id is missing; wanted text."
    assert (len(found), found[-1]) == (21, "standard input: and 10 more.")
    refused(cli("connections", "import", "-", answer="[{"), "standard input is no JSON: ")


# --- list and show ------------------------------------------------------------------------------------------------


def test_connections_are_listed_by_integration(cli: Cli, db: Database, vault: Vault) -> None:
    assert cli.good("connections", "list").stdout == "no connections\n"
    connections.add(db, vault, connections.NewConnection("github", "acme", credentials={"token": SECRET}))
    connections.add(db, None, connections.NewConnection("hubspot", "bolt"))
    for _ in range(3):
        credential_state.note_auth_failure(db, "github", "acme")
    text = cli.good("connections", "list").stdout
    assert "refused 3 times" in text and text.endswith("\n2 connections\n") and SECRET not in text
    (one,) = cli.good("connections", "--json", "list", "--integration", "hubspot").json
    assert (one["connection_id"], one["has_credentials"], one["needs_reauthorisation"]) == ("bolt", False, False)
    assert cli.good("connections", "list", "--integration", "x").stdout == "no connections of x\n"


def test_a_connection_is_shown_without_its_secrets(cli: Cli, db: Database, vault: Vault) -> None:
    held = {"type": "OAUTH2", "access_token": SECRET, "refresh_token": SECRET}
    metadata = {"region": "eu", "api_key": SECRET, "deep": [{"password": SECRET}]}
    syncs.register(db, read_file("sync_configs/issues.yaml"))
    connections.add(
        db,
        vault,
        connections.NewConnection("github", "acme", credentials=held, metadata=metadata, config={"secret": SECRET}),
    )
    connections.add_variant(db, row_of(db).id, "acme", "eu")
    said = cli.good("connections", "show", *ACME)
    assert SECRET not in said.stdout
    assert "credentials  OAUTH2 with access_token, refresh_token" in said.stdout
    assert 'metadata     {"region": "eu", "api_key": "***", "deep": [{"password": "***"}]}' in said.stdout
    assert "syncs        issues (base), issues (eu)" in said.stdout
    document = cli.good("connections", "show", *ACME, "--json").json
    assert document["credentials"] == {"type": "OAUTH2", "fields": ["access_token", "refresh_token"]}
    assert document["config"] == {"secret": "***"}
    assert [(one["sync"], one["variant"], one["state"]) for one in document["variants"]] == [
        ("issues", "base", "SUCCESS"),
        ("issues", "eu", "SUCCESS"),
    ]


def test_a_connection_whose_key_is_gone_is_shown_with_what_to_do(cli: Cli, db: Database, vault: Vault) -> None:
    connections.add(db, vault, connections.NewConnection("github", "acme", credentials={"token": SECRET}))
    other = base64.b64encode(b"o" * 32).decode()
    said = cli.good("connections", "show", *ACME, NANGO_ENCRYPTION_KEY=other)
    assert "unreadable: the stored credentials were encrypted with another key" in said.stdout


@pytest.mark.parametrize("command", ["show", "remove", "metadata"])
def test_an_unknown_connection_is_answered_with_those_there_are(cli: Cli, db: Database, command: str) -> None:
    refused(
        cli("connections", command, *ACME), "github has no connections yet; make one with: nango-dagster connections"
    )
    connections.add(db, None, connections.NewConnection("hubspot", "bolt"))
    refused(cli("connections", command, *ACME), 'no connection is of integration "github"; there are hubspot.')
    connections.add(db, None, connections.NewConnection("github", "acne"))
    refused(cli("connections", command, *ACME), 'github has no connection "acme"; did you mean acne?')


# --- metadata -----------------------------------------------------------------------------------------------------


def test_metadata_is_shown_replaced_and_merged(cli: Cli, db: Database, vault: Vault) -> None:
    db = replace(db, vault=lambda: vault)
    connections.add(db, None, connections.NewConnection("github", "acme", metadata={"a": {"x": 1}, "b": 2}))
    assert cli.good("connections", "metadata", *ACME).stdout == '{"a": {"x": 1}, "b": 2}\n'
    cli.good("connections", "metadata", *ACME, "--update", '{"a": {"y": 1}, "token": "hush"}')
    row = connections.get(db, "github", "acme")
    assert row is not None and row.metadata == {"a": {"y": 1}, "b": 2, "token": "hush"}
    shown = cli.good("connections", "metadata", *ACME, "--json").json
    assert shown["metadata"] == {"a": {"y": 1}, "b": 2, "token": "***"}
    said = cli.good("connections", "metadata", *ACME, "--set", '{"z": "é"}')
    assert said.stdout == 'acme of github has the metadata {"z": "é"}.\n'
    row = connections.get(db, "github", "acme")
    assert row is not None and row.metadata == {"z": "é"}


def test_metadata_that_cannot_be_set_is_a_sentence(cli: Cli, db: Database) -> None:
    connections.add(db, None, connections.NewConnection("github", "acme", metadata={"a": 1}))
    refused(cli("connections", "metadata", *ACME, "--set", "{"), "--set is no JSON")
    refused(cli("connections", "metadata", *ACME, "--update", "[]"), "--update is a list")
    refused(cli("connections", "metadata", *ACME, "--set", "{}", "--update", "{}"), "wanted one of them")
    unknown = cli("connections", "metadata", *GITHUB, "--connection", "bolt", "--set", "{}")
    refused(unknown, 'github has no connection "bolt"; there are acme.')
    row = connections.get(db, "github", "acme")
    assert row is not None and row.metadata == {"a": 1}


# --- remove -------------------------------------------------------------------------------------------------------


@pytest.fixture
def filled(cli: Cli, db: Database, settings: Settings, api: FakeApi) -> Cli:
    """Two connections with three records each."""
    source = Source(api, items(1, 2, 3))
    write_sync("issues", url=api.url + source.path, integration="github", unique_key="id", **PAGING)
    row = syncs.register(db, read_file("sync_configs/issues.yaml"))["issues"]
    for name in ("acme", "bolt"):
        connections.add(db, None, connections.NewConnection("github", name))
        with runs.claimed(db, settings, row, connection_id=name) as execution:
            assert execution.run().status == "succeeded"
    return cli


def test_removing_a_connection_is_asked_for_and_takes_its_records_along(filled: Cli, db: Database) -> None:
    for answer in ("n\n", ""):
        said = filled("connections", "remove", *ACME, answer=answer)
        assert said.status == 1 and "with its 3 records" in said.stderr and "Nothing was done." in said.stderr
    assert filled("connections", "remove", *ACME, "--json").json["error"].startswith("--yes is missing")
    assert connections.get(db, "github", "acme") is not None
    said = filled("connections", "remove", *ACME, answer="y\n")
    assert (said.status, said.stdout) == (0, "Deleted acme of github with its 3 records.\n")
    assert [one.connection_id for one in queue.schedules(db, [row_of(db).id])] == ["bolt"]
    gone = filled.good("connections", "remove", *GITHUB, "--connection", "bolt", "--yes", "--json").json
    assert gone == {"integration": "github", "connection_id": "bolt", "removed": True, "records": 3}


def test_a_url_of_its_own_for_webhooks_is_encrypted_and_shown_by_its_origin_alone(cli: Cli, db: Database) -> None:
    config = {"webhook_url_override": f"https://hooks.example.com/{SECRET}", "subdomain": "acme"}
    cli.good("connections", "add", *ACME, "--config", json.dumps(config))
    with closing(open_database(Settings.from_env(cli.env, dotenv=None))) as keyed:
        own = announcing.own_urls(keyed, {("github", "acme")})
    assert own == {("github", "acme"): OwnUrl(config["webhook_url_override"], "operator")}
    assert announcing.own_urls(db, {("github", "acme")}) == {
        ("github", "acme"): OwnUrl(None, "operator")
    }  # without the key
    said = cli.good("connections", "show", *ACME).stdout
    assert "https://hooks.example.com" in said and SECRET not in said
    wrong = cli("connections", "add", *ACME, "--replace", "--config", json.dumps({"webhook_url_override": SECRET}))
    refused(wrong, "webhook_url_override cannot be used; wanted a URL such as https://example.com/hook.")


# --- variants -----------------------------------------------------------------------------------------------------


def test_a_variant_is_made_listed_and_removed(cli: Cli, db: Database) -> None:
    cli.good("connections", "add", *ACME)
    assert cli.good("variants", "list", "issues").stdout == "issues has no variants besides base\n"
    said = cli.good("variants", "add", "issues", "--connection", "acme", "--variant", "eu")
    assert said.stdout.splitlines()[0] == "Added the variant eu of issues for acme."
    again = cli("variants", "add", "issues", "--connection", "acme", "--variant", "eu")
    refused(again, 'issues has the variant "eu" for acme already.')
    (one,) = cli.good("variants", "list", "issues", "--json").json
    assert one == {"connection_id": "acme", "variant": "eu", "state": "SUCCESS", "records": 0}
    (line,) = [line for line in cli.good("variants", "list", "issues").stdout.splitlines() if "acme" in line]
    assert line.split() == ["acme", "eu", "new", "0"]  # it has not run yet
    declined = cli("variants", "remove", "issues", "--connection", "acme", "--variant", "eu", answer="n\n")
    assert declined.status == 1 and "Nothing was done." in declined.stderr
    gone = cli.good("variants", "remove", "issues", "--connection", "acme", "--variant", "eu", "--yes", "--json").json
    assert gone == {"sync": "issues", "connection_id": "acme", "variant": "eu", "removed": True, "records": 0}
    assert queue.partitions(db, row_of(db).id) == [("acme", "base")]


def test_a_variant_of_a_paused_connection_starts_by_itself(cli: Cli, db: Database) -> None:
    cli.good("connections", "add", *ACME)
    cli.good("pause", "issues")
    said = cli.good("variants", "add", "issues", "--connection", "acme", "--variant", "eu")
    assert "It runs within seconds" in said.stdout
    states = {one.variant: one.state for one in queue.schedules(db, [row_of(db).id])}
    assert states == {"base": "PAUSED", "eu": "STARTED"}


def test_a_variant_of_a_sync_without_auto_start_is_paused(cli: Cli, db: Database) -> None:
    write_sync("issues", url=URL, integration="github", unique_key="id", auto_start=False)
    cli.good("connections", "add", *ACME)
    cli.good("start", "issues")
    said = cli.good("variants", "add", "issues", "--connection", "acme", "--variant", "eu")
    assert said.stdout.endswith("It is paused, as new schedules of this sync are (auto_start).\n")


def test_variants_that_cannot_be_are_sentences(cli: Cli, db: Database) -> None:
    write_sync("single", url=URL)
    add, remove = ("variants", "add"), ("variants", "remove")
    eu = ("--variant", "eu")
    refused(
        cli(*add, "issues", "--connection", "acme", *eu), "issues runs for no connection: github has no connections"
    )
    cli.good("connections", "add", *ACME)
    refused(cli(*add, "isues", "--connection", "acme", *eu), 'there is no sync "isues"; did you mean issues?')
    refused(
        cli(*add, "issues", "--connection", "acne", *eu), 'does not run for a connection "acne"; did you mean acme?'
    )
    refused(cli(*add, "single", "--connection", "acme", *eu), "single has no connections, for it names no integration")
    refused(cli(*add, "single", "--connection", "default", *eu), "so it has no variants either.")
    assert cli.good("variants", "list", "single", "--json").json == []
    refused(cli(*add, "issues", "--connection", "acme", "--variant", ""), "is no name of variant")
    refused(cli(*remove, "issues", "--connection", "acme", *eu, "--yes"), 'issues has no variant "eu" for acme')
    refused(cli(*remove, "issues", "--connection", "acme", "--variant", "base", "--yes"), "goes with it")
    refused(cli(*remove, "issues", "--connection", "nobody", *eu, "--yes"), 'a connection "nobody"')


# --- Dagster's partitions -----------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A Dagster home."""
    home = tmp_path / "dagster"
    home.mkdir()
    (home / "dagster.yaml").touch()
    return home


def test_partitions_come_and_go_in_the_same_step(cli: Cli, home: Path) -> None:
    from dagster import DagsterInstance

    there = {"DAGSTER_HOME": str(home)}

    def keys() -> list[str]:
        with DagsterInstance.from_config(str(home)) as instance:
            return sorted(instance.get_dynamic_partitions("nango/github/issues"))

    cli.good("connections", "add", *ACME, **there)
    assert keys() == ["acme"]
    cli.good("variants", "add", "issues", "--connection", "acme", "--variant", "eu", **there)
    Path("more").write_text(lines({"integration": "github", "connection_id": "bolt"}))
    cli.good("connections", "import", "more", **there)
    assert keys() == ["acme", "acme|eu", "bolt"]
    cli.good("variants", "remove", "issues", "--connection", "acme", "--variant", "eu", "--yes", **there)
    cli.good("connections", "remove", *GITHUB, "--connection", "bolt", "--yes", **there)
    assert keys() == ["acme"]


def test_a_dagster_that_cannot_be_opened_is_a_warning(cli: Cli, db: Database, home: Path) -> None:
    (home / "dagster.yaml").write_text("nonsense: {")
    said = cli("connections", "add", *ACME, DAGSTER_HOME=str(home))
    assert said.status == 0 and said.stdout.startswith("Added acme to github.")
    assert said.stderr.startswith(
        "Dagster does not have the new partitions yet; its dispatcher adds them when it runs: "
    )
    said = cli("connections", "remove", *ACME, "--yes", DAGSTER_HOME=str(home / "nowhere"))
    assert said.status == 0 and "which is no folder" in said.stderr
    assert connections.list_connections(db) == []
