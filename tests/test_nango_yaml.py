"""A nango.yaml is read as Nango has it; every file is parsed, or refused with a line."""

from __future__ import annotations

import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from nango_dagster import runs
from nango_dagster.config import from_document, interval_of, read_dir, read_file
from nango_dagster.config.nango_yaml import NangoYaml, read_text
from nango_dagster.config.scripts import load_function
from nango_dagster.errors import ConfigError
from nango_dagster.models import fields_of, misfit, validator
from nango_dagster.node.configs import read_configs
from nango_dagster.settings import Settings
from nango_dagster.store import Database, connections, syncs
from nango_dagster.vault import vault_of
from tests.commands import Cli
from tests.executions import stored
from tests.script_project import KEY

GITHUB = """
integrations:
  github:
    syncs:
      issues:
        runs: every half hour
        description: Issues of the chosen repositories.
        output: Issue
        endpoint: {method: GET, path: /github/issues, group: Issues}
        sync_type: full
        track_deletes: true
        auto_start: false
        input: Repositories
        scopes: [repo, "read:org"]
        version: 1.10
        x-dagster: {mapped_table: issues, validate: reject}
    actions:
      create-issue: {input: Issue, output: Issue, endpoint: POST /github/issues}
    on-events:
      post-connection-creation: [set-up]
models:
  Base:
    id: integer
    url?: string
  Issue:
    __extends: Base
    title: string | null
    state: open | closed
    author: {login: string, type: User | Bot}
    labels: Label[]
    created_at: date
    meta: object
    __string: any
  Label: {name: string, "color?": string}
  Repositories: {repos: "string[]"}
"""


def yaml_of(text: str, **options: Any) -> NangoYaml:
    return read_text(textwrap.dedent(text), "nango.yaml", **options)


def one_type(type_: str) -> tuple[dict[str, Any], NangoYaml]:
    """The schema of a field of this type, and the whole content."""
    content = yaml_of(
        f"""
        integrations: {{a: {{syncs: {{s: {{runs: every hour, output: Item}}}}}}}}
        models:
          Other: {{x: string}}
          Item:
            id: string
            field: {type_}
        """
    )
    models = [sync.models["Item"] for sync in content.syncs]
    return (models[0]["properties"]["field"] if models else {}), content


def test_a_sync_becomes_the_fields_of_a_config() -> None:
    content = yaml_of(GITHUB)
    (sync,) = content.syncs
    assert (content.version, content.problems, content.warnings) == (2, (), ())
    assert {name: value for name, value in sync.fields.items() if "model" not in name} == {
        "name": "issues",
        "integration": "github",
        "frequency": "every half hour",
        "description": "Issues of the chosen repositories.",
        "auto_start": False,
        "track_deletes": True,
        "tags": {"nango/version": "1.10"},
        "mapped_table": "issues",
        "validate": "reject",
    }
    assert {field.name: field.kind for field in fields_of(sync.models["Issue"])} == {
        **{"id": "number", "url": "string", "title": "string", "state": "string", "author.login": "string"},
        **{"author.type": "string", "labels": "json", "created_at": "timestamp", "meta": "json"},
    }
    assert sync.fields["metadata_model"]["required"] == ["repos"]
    assert (sync.scopes, sync.line) == (("repo", "read:org"), 5)
    assert content.not_run_sentence("nango.yaml") == (
        "nango.yaml: these do not run here: actions (github/create-issue); on-events (github/post-connection-creation)."
    )


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({}, None),
        ({"title": None, "url": "x", "whatever": 7}, None),
        ({"title": 5}, "title is a number; wanted string or null"),
        ({"state": "ajar"}, 'state: the value is not one of "open" or "closed"'),
        ({"labels": [{"name": 5}]}, "labels[].name is a number; wanted string"),
    ],
)
def test_records_are_validated_with_the_models_of_the_file(record: dict[str, Any], reason: str | None) -> None:
    (sync,) = yaml_of(GITHUB).syncs
    issue = {"id": 1, "title": "a", "state": "open", "author": {"login": "ann", "type": "User"}, "labels": []}
    whole = {**issue, "created_at": "2024-01-01", "meta": {}, **record}
    assert misfit(validator(sync.models["Issue"]), whole) == reason


# --- types ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type_", "schema"),
    [
        ("string", {"type": "string"}),
        ("Integer", {"type": "number"}),
        ("varchar", {"type": "string"}),
        ("bool", {"type": "boolean"}),
        ("any", {}),
        ("undefined", {}),
        ("Other", {"$ref": "#/$defs/Other"}),
        ("Other[]", {"type": "array", "items": {"$ref": "#/$defs/Other"}}),
        ("string[][]", {"type": "array", "items": {"type": "array", "items": {"type": "string"}}}),
        ("string | null", {"anyOf": [{"type": "string"}, {"type": "null"}]}),
        ("string | undefined", {"type": "string"}),
        ("Other | null", {"anyOf": [{"$ref": "#/$defs/Other"}, {"type": "null"}]}),
        ("open | closed", {"enum": ["open", "closed"]}),
        ("open | null", {"anyOf": [{"type": "null"}, {"const": "open"}]}),
        ("1 | 2", {"enum": [1, 2]}),
        ("7", {"const": 7}),
        ("true", {"const": True}),
        ("null", {"type": "null"}),
        ("[string]", {"type": "array", "items": {"type": "string"}}),
        ("[]", {"type": "array"}),
        ("{a: string}", {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}),
        ("{__string: number}", {"type": "object", "additionalProperties": {"type": "number"}}),
        ("\"'draft'\"", {"const": "draft"}),
    ],
)
def test_a_type_is_a_json_schema(type_: str, schema: dict[str, Any]) -> None:
    read, content = one_type(type_)
    assert (read, content.problems, content.warnings) == (schema, (), ())


@pytest.mark.parametrize(
    ("type_", "schema", "sentence", "code"),
    [
        ("integer;", {"type": "number"}, "ends with a semicolon", None),
        ("array<string>", {"type": "array", "items": {"type": "string"}}, "is read as string[]", None),
        ("Array<Other>", {"type": "array", "items": {"$ref": "#/$defs/Other"}}, "is read as Other[]", None),
        ("Othr", {}, '"Othr" is no type and no model', "model_not_found_fallback"),
        ("Othr | null", {}, '"Othr" is no type and no model', "model_not_found_fallback"),
        ("draft", {}, '"draft" is no type and no model', "model_not_found_fallback"),
    ],
)
def test_a_deviation_is_understood_and_told(
    type_: str, schema: dict[str, Any], sentence: str, code: str | None
) -> None:
    read, content = one_type(type_)
    (warning,) = content.warnings
    assert (read, content.problems, warning.code) == (schema, (), code)
    assert sentence in warning.sentence and warning.line == 7


@pytest.mark.parametrize(
    ("type_", "code"),
    [
        ('"[]"', "type_syntax_error"),
        ("Record<string, any>", "type_syntax_error"),
        ("Promise<Other>", "type_syntax_error"),
        ("Partial<Other>[]", "type_syntax_error"),
        ('"string | "', "failed_to_parse_union"),
        ('""', "type_syntax_error"),
    ],
)
def test_a_type_that_nobody_can_read_is_an_error_of_the_syncs_that_use_it(type_: str, code: str) -> None:
    _, content = one_type(type_)
    (problem,) = content.problems
    assert (content.syncs, problem.code, problem.line) == ((), code, 7)


# --- syncs ------------------------------------------------------------------------------------------------------------

SYNC = (
    "integrations: {{a: {{syncs: {{s: {{runs: every hour, output: Item, {}}}}}}}}}\nmodels: {{Item: {{id: string}}}}\n"
)


@pytest.mark.parametrize(
    ("text", "code", "line", "part"),
    [
        (SYNC.format("runs: x"), None, 1, "runs stands here again"),
        (SYNC.format("sync_type: Incremental, track_deletes: true"), None, 1, "would delete every record"),
        (SYNC.format("endpoint: [/a, /b]"), "endpoints_mismatch", 1, "2 endpoints and 1 models"),
        (SYNC.format("endpoint: 'GET /{Nobody}'"), "model_not_found", 1, "Nobody"),
        (SYNC.format("x-dagster: {frequency: 5}"), None, 1, "the nango.yaml itself says it"),
        (SYNC.replace("every hour", "every 20s").format(""), "invalid_runs", 1, "at least 30 seconds"),
        (SYNC.replace("every hour", "5").format(""), "invalid_runs", 1, "at least 30 seconds"),
        (SYNC.replace("runs: every hour, ", "").format(""), "invalid_runs", 1, "has no runs"),
        (SYNC.replace("{{id: string}}", "{{name: string}}").format(""), "model_missing_id", 1, "no field id"),
        (SYNC.replace("output: Item", "output: Nobody").format(""), "model_not_found", 1, "is no model"),
        (SYNC.replace("Item", "item").format(""), "invalid_model_name", 1, "capital letter"),
        (SYNC.format("") + "  # comment\n\t- tab\n", None, 4, "is no YAML"),
        ("integrations: 5\n", None, 1, "wanted an object of integrations"),
        ("- a\n", None, 1, "wanted integrations and models"),
        (
            "integrations:\n  a:\n    syncs: {s: {runs: 1h, output: Item}, t: {runs: 1h, output: Item}}\n"
            "models: {Item: {id: string}}\n",
            "duplicate_model",
            3,
            "the output of s already",
        ),
        (
            "integrations:\n  a:\n    syncs:\n      s: {runs: 1h, output: Item, endpoint: /x}\n"
            "      t: {runs: 1h, output: Deal, endpoint: GET /x}\nmodels: {Item: {id: string}, Deal: {id: string}}\n",
            "duplicate_endpoint",
            5,
            "belongs to s already",
        ),
        (
            "integrations:\n  a:\n    syncs: {s: {runs: 1h, output: Item}}\nmodels:\n"
            "  Item:\n    __extends: Base\n    id: string\n",
            "model_extends_not_found",
            5,
            "which is no model",
        ),
        (
            "integrations:\n  a:\n    syncs: {s: {runs: 1h, output: Item}}\n    on-events: {x: [y]}\n"
            "    post-connection-scripts: [y]\nmodels: {Item: {id: string}}\n",
            "both_post_connection_scripts_and_on_events_present",
            5,
            "wanted on-events alone",
        ),
    ],
)
def test_an_error_has_nangos_code_and_the_line(text: str, code: str | None, line: int, part: str) -> None:
    try:
        problems = read_text(text).problems
    except ConfigError as error:
        problems = error.problems
    assert [(problem.code, problem.line) for problem in problems] == [(code, line)]
    assert part in problems[0].sentence


def test_an_error_of_one_sync_leaves_the_others() -> None:
    content = yaml_of(
        """
        integrations:
          a: {syncs: {good: {runs: every hour, output: Item}, bad: {runs: often, output: Deal}}}
        models: {Item: {id: string}, Deal: {id: string}, Unused: {x: "Record<a, b>"}}
        """
    )
    assert [sync.name for sync in content.syncs] == ["good"]
    assert [problem.code for problem in content.problems] == ["invalid_runs"]
    assert [warning.code for warning in content.warnings] == ["type_syntax_error"]  # no sync uses it


def test_version_1_has_syncs_without_a_type_and_actions() -> None:
    content = yaml_of(
        """
        integrations:
          ${PWD}:
            issues: {type: sync, runs: every 1h, returns: [Issue], auto_start: false, version: 2}
            create: {type: action, returns: Issue}
        models:
          Issue: {id: string}
        """,
        folder="github",
    )
    (sync,) = content.syncs
    assert (content.version, sync.integration, sync.fields["auto_start"], sync.version) == (1, "github", False, "2")
    assert content.not_run["actions"] == ("github/create",)
    assert read_text("").version == 1


@pytest.mark.parametrize(
    ("runs", "minutes"),
    [
        *[("every half day", 720), ("every half hour", 30), ("every quarter hour", 15), ("every hour", 60)],
        *[("every day", 1440), ("every week", 10_080), ("every month", 43_200), ("every 5minutes", 5)],
        *[("5m", 5), ("5min", 5), ("every 10 mins", 10), ("2h", 120), ("1 day", 1440), ("30 days", 43_200)],
        *[("every 30s", 0.5), ("30 seconds", 0.5), ("every 12 hrs", 720), ("every 31 days", 44_640)],
        *[("every 1.5 hours", 90), ("every .5h", 30), ("every 2 weeks", 20_160), ("week", 10_080), ("half hour", 30)],
        *[("every 365 days", 525_600), ("1y", 525_960), ("every 20s", None), ("every 0 minutes", None)],
        *[("every", None), ("5", None), (5, None), ("", None), ("often", None)],
    ],
)
def test_runs_has_the_intervals_that_nango_reads(runs: Any, minutes: float | None) -> None:
    content = read_text(SYNC.replace("every hour", repr(runs)).format("version: 1"))
    if minutes is None:
        assert [problem.code for problem in content.problems] == ["invalid_runs"]
    else:
        (sync,) = content.syncs
        assert interval_of(sync.fields["frequency"]).total_seconds() == minutes * 60
        assert bool(content.warnings) == (minutes > 31 * 1440)


ODD = [
    ("endpoint: GET /issues", 1),
    ("endpoint: /issues", 1),
    ("endpoint: {GET: /issues}", 1),
    ("endpoint: ", 1),
    ("endpoint: {method: get, path: '/i/{Item}'}", 1),
    ("scopes: repo read:org", 1),
    ("scopes: 'repo,read:org'", 1),
    ("scopes: ", 1),
    ("version: 1.10.0", 1),
    ("description: ", 1),
    ("type: sync", 1),
    ("auto_start: 'no'", 1),
    ("sync_type: whatever, track_deletes: true", 1),
    ("track_deletes: false, sync_type: INCREMENTAL", 1),
    ("webhook-subscriptions: [issues]", 1),
    ("input: string", 1),
    ("input: {a: string}", 1),
    ("input: Missing", 1),
    ("primary_model: Item", 1),
    ("output: 'Item[]'", 0),  # `output` stands twice
    ("x-dagster: ", 1),
    ("x-dagster: {mapped_table: t, tags: {a: b}}", 1),
    ("x-dagster: 5", 0),
    ("webhook-subscriptions: '*'", 1),
    ("scopes: {a: b}", 1),
]


@pytest.mark.parametrize(("fields", "count"), ODD)
def test_oddities_of_files_in_the_wild(fields: str, count: int) -> None:
    try:
        content = read_text(SYNC.format(fields))
    except ConfigError as error:
        assert count == 0 and error.problems[0].line is not None
        return
    assert len(content.syncs) == count and (count or content.problems)
    for sync in content.syncs:
        from_document({**sync.fields, "script": "scripts:s"})


# --- files as they are counted in the wild: 100 of them ---------------------------------------------------------------

_WORDS = st.sampled_from(["open", "closed", "User", "Bot", "ACTIVE", "it's", "a b"])
_BASE = st.sampled_from(
    ["string"] * 12
    + ["number", "boolean", "date", "any", "object", "integer", "null", "undefined", "M1", "M2", "Nobody"]
)
_TYPES = st.one_of(
    _BASE,
    _BASE.map(lambda base: f"{base}[]"),
    st.lists(_BASE | _WORDS, min_size=2, max_size=4).map(" | ".join),
    st.sampled_from(["array<M1>", "integer;", "Record<string, any>", "[]", "12", "true", "'x'"]),
    st.sampled_from([True, None, 5, 1.5]),
    st.lists(_BASE, max_size=2),
    st.dictionaries(st.sampled_from(["a", "b?", "__string"]), _BASE, max_size=3),
)
_NAMES = st.sampled_from(["name", "email?", "created_at", "state", "owner", "tags", "__string", "a.b", "naïve"])
_MODELS = st.fixed_dictionaries(
    {f"M{number}": st.dictionaries(_NAMES, _TYPES, max_size=6) for number in (1, 2, 3)},
)
_SYNCS = st.fixed_dictionaries(
    {
        "runs": st.sampled_from(
            ["every hour"] * 6 + ["every 5 minutes", "every day", "every half day", "every 365 days", "6min", "often"]
        ),
        "output": st.sampled_from(["M1", "M2", "M3", ["M1", "M2"], "M1[]", "string"]),
    },
    optional={
        "endpoint": st.sampled_from(["GET /a", "/b", {"method": "GET", "path": "/c", "group": "C"}, ["/d", "/e"]]),
        "sync_type": st.sampled_from(["full", "incremental"]),
        "track_deletes": st.booleans(),
        "auto_start": st.booleans(),
        "input": st.sampled_from(["M3", "string", "Nobody"]),
        "scopes": st.sampled_from([["a", "b"], "a, b", "a b"]),
        "version": st.sampled_from(["1.0.0", 2]),
        "description": st.text(max_size=20),
    },
)
_FILES = st.fixed_dictionaries(
    {
        "integrations": st.dictionaries(
            st.sampled_from(["github", "${PWD}", "hub-spot"]),
            st.fixed_dictionaries(
                {"syncs": st.dictionaries(st.sampled_from(["a", "b-c", "d_e"]), _SYNCS, max_size=3)},
                optional={"actions": st.just({"act": {"endpoint": "/a"}}), "on-events": st.just({"x": ["y"]})},
            ),
            max_size=2,
        ),
        "models": _MODELS,
    }
)


@given(file=_FILES, has_ids=st.booleans(), extends=st.sampled_from([None, "M2", "M3, M2", "Nobody"]))
@hypothesis_settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
def test_a_file_as_they_are_in_the_wild_is_parsed_or_refused_with_a_line(
    file: dict[str, Any], has_ids: bool, extends: str | None
) -> None:
    for fields in file["models"].values():
        fields |= {"id": "string"} if has_ids else {}
    if extends is not None:
        file["models"]["M1"]["__extends"] = extends
    content = read_text(yaml.safe_dump(file, sort_keys=False, allow_unicode=True))
    assert all(problem.line is not None for problem in (*content.problems, *content.warnings))
    declared = [name for integration in file["integrations"].values() for name in integration["syncs"]]
    assert len(content.syncs) <= len(declared)
    assert content.syncs or content.problems or not declared
    for sync in content.syncs:
        made = from_document({**sync.fields, "script": "scripts:s"})
        for schema in made.models.values():
            assert any(field.name == "id" for field in fields_of(schema))


# --- scripts beside the file ------------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder of configs with a nango.yaml and a script."""
    folder = tmp_path / "sync_configs"
    (folder / "github" / "syncs").mkdir(parents=True)
    (folder / "nango.yaml").write_text(GITHUB)
    (folder / "github" / "syncs" / "issues.py").write_text(
        "def fetch_data(nango):\n    nango.batch_save([{'id': 1, 'title': 'a', 'state': 'open'}, {'id': 2}])\n"
    )
    return folder


def test_a_sync_runs_the_python_script_beside_the_file(
    project: Path, db: Database, settings: Settings, settings_env: dict[str, str]
) -> None:
    configs = read_dir(project)
    assert configs.errors == () and [sync.name for sync in configs.syncs] == ["issues"]
    (sync,) = configs.syncs
    assert (sync.script, sync.model, sync.unique_key) == ("github/syncs/issues.py:fetch_data", "Issue", "id")
    row = syncs.register(db, [sync.model_copy(update={"validate": "warn"})])["issues"]
    settings = replace(settings, configs=project, encryption_keys=(KEY,))

    def executed(**metadata: Any) -> runs.Outcome:
        connections.set_metadata(db, "github", "acme", metadata)
        with runs.claimed(db, settings, row, connection_id="acme") as execution:
            return execution.run()

    connections.add(db, vault_of(settings), connections.NewConnection("github", "acme"))
    outcome = executed(repos="acme/web")
    assert outcome.error is not None and "does not fit metadata_model: repos is a string; wanted array" in outcome.error
    outcome = executed(repos=[])
    assert outcome.error is None and stored(db, row).live_count == 2
    assert outcome.unfit["Issue"].total() == 2
    result = Cli(settings_env)("validate", "--configs", str(project))
    assert result.status == 0 and result.stderr.count("these do not run here") == 1


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "nango.yaml:5:7: the sync issues has no script; wanted github/syncs/issues.py, or"),
        ("x = 1\n", "issues.py:1: the script has no such function; wanted def fetch_data(nango)"),
        ("def fetch_data(:\n", "issues.py:1: the file is no Python"),
        (
            "from nango_dagster import sync\n@sync\ndef a(nango): ...\n@sync(model=5)\ndef b(nango): ...\n",
            "issues.py:1: the script has several functions with @sync",
        ),
    ],
)
def test_a_script_that_cannot_be_called_is_an_error_with_a_line(project: Path, text: str | None, sentence: str) -> None:
    script = project / "github" / "syncs" / "issues.py"
    script.unlink() if text is None else script.write_text(text)
    (error,) = read_dir(project).errors
    assert sentence in str(error)


def test_a_decorated_function_and_a_script_at_the_root_are_run_too(project: Path) -> None:
    (project / "github" / "syncs" / "issues.py").unlink()
    (project / "issues.py").write_text("from nango_dagster import sync\n@sync(model=5)\ndef anything(nango): ...\n")
    (sync,) = read_file(project / "nango.yaml")
    assert sync.script == "issues.py:anything"


def test_an_extra_field_that_is_wrong_has_its_line(project: Path) -> None:
    (project / "nango.yaml").write_text(GITHUB.replace("validate: reject", "validate: refuse"))
    with pytest.raises(ConfigError, match=r"nango\.yaml:16:\d+: validate is \"refuse\"; wanted one of warn"):
        read_file(project / "nango.yaml")


def test_a_project_outside_of_the_configs_gives_its_python_scripts(project: Path, settings: Settings) -> None:
    root = project.parent / "nango-integrations"
    project.rename(root)
    text = GITHUB.replace("models:\n", "models:\n  Deal: {id: string}\n")
    text = text.replace(
        "    syncs:\n", "    syncs:\n      deals: {runs: 1h, output: Deal}\n      none: {runs: 1h, output: Deal}\n"
    )
    (root / "nango.yaml").write_text(text)
    (root / "github" / "syncs" / "deals.ts").write_text("export default 1;\n")
    for folder in (project, project.parent / "missing"):
        configs = read_configs(replace(settings, configs=folder, scripts=root))
        (sync,) = configs.syncs
        assert load_function(str(sync.script), folder).__name__ == "fetch_data"
        project.mkdir(exist_ok=True)
    (project / "nango.yaml").write_text(text)
    (project / "deals.ts").write_text("export default 1;\n")
    (_, warning) = read_dir(project).warnings
    assert "the sync deals has a TypeScript script, which runs only where NANGO_SCRIPTS" in warning
