"""The glossary explains every term that a module is named after."""

from __future__ import annotations

import re

from tests.conftest import ROOT

PACKAGE = ROOT / "nango_dagster"

# Terms of Python, SQL, HTTP and Dagster that this package uses as its field does.
# fmt: off
GENERAL = frozenset({
    "access", "addresses", "ahead", "answer", "answers", "api", "app", "assets", "auth", "background", "browser_guard",
    "build", "calls", "charsets", "check", "checks", "cli", "client", "columns", "combinations", "command", "component",
    "config", "config_watch", "configs", "connected", "connection_calls", "connection_input", "contacts", "counted",
    "credential_state", "dagster_state", "dagster_yaml", "database", "decoding", "decorator", "definitions", "defs",
    "deletion", "demo", "differences", "docs", "document", "dry_run", "ending", "engine_postgresql", "engine_sqlite",
    "environment", "errors", "example_parent", "failures", "fast_rows", "fields", "files", "formats", "formatting",
    "functions", "gate", "gzip_files", "headers", "health", "http", "input", "instance", "internals", "interrupts",
    "io_manager", "json_text", "key_forms", "key_sets", "kinds", "limits", "list_guide", "listing", "lists", "locks",
    "logs", "members", "metrics", "names", "nango", "not_loaded", "oauth1", "oauth2", "openapi", "opening", "paths",
    "ports", "post", "preview", "processes", "project", "protocol", "proxy", "raw_json", "reading", "rebuilding",
    "record_calls", "record_schemas", "records_query", "redirects", "reference", "refusals", "reload", "report",
    "resource", "responses", "results", "retrying", "retyping", "routes", "rows", "rows_postgresql", "rows_sqlite",
    "run_retention", "sample", "sample_api", "scaffolding", "schema", "script_dry_run", "script_tests", "scripts",
    "secrets", "sending", "sentences", "serve", "server", "servers", "service", "serving", "settings", "shapes",
    "shared", "sockets", "status", "status_tables", "steer", "styles", "sync_answers", "sync_calls", "sync_definitions",
    "sync_execution", "sync_row", "sync_states", "sync_status", "system_columns", "table", "tables", "testing",
    "timestamps", "transport", "trying", "types", "upgrade", "urls", "user_assets", "user_value", "values",
    "webhook_settings", "webserver", "widths",
})
# fmt: on


def terms() -> set[str]:
    """The terms in bold, in lower case and with underscores."""
    text = (ROOT / "docs" / "reference" / "glossary.md").read_text()
    return {term.lower().replace(" ", "_") for term in re.findall(r"\*\*([^*]+)\*\*", text)}


def candidates(name: str) -> set[str]:
    """The terms that a module's name may stand for: `claims` and `claiming` are named after the claim."""
    stems = {name, name.removesuffix("s"), name.removesuffix("es"), name.removesuffix("ing")}
    return stems | {f"{name.removesuffix('ies')}y"}


def test_the_glossary_explains_every_term_that_a_module_is_named_after() -> None:
    files = [file for file in PACKAGE.rglob("*.py") if "migrations" not in file.parts]
    names = {part for file in files for part in file.relative_to(PACKAGE).with_suffix("").parts if part[0] != "_"}
    known = terms() | GENERAL
    assert sorted(name for name in names if not candidates(name) & known) == []


def test_each_term_is_explained_once() -> None:
    rows = re.findall(r"^\| \*\*([^*]+)\*\*", (ROOT / "docs" / "reference" / "glossary.md").read_text(), re.M)
    assert sorted(rows) == sorted(set(rows))
