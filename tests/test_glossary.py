"""The glossary explains every term that a module is named after."""

from __future__ import annotations

import re

from tests.import ROOT

PACKAGE = ROOT / "nango_dagster"

# Terms of Python, SQL, HTTP and Dagster that the field uses as we do.
GENERAL = frozenset(
    """
    access addresses ahead answer answers api app assets auth background build calls charsets check checks cli client
    columns combinations connection_input database command component config conftest counted dagster dagster_state dagster_yaml decoding
    definitions defs deletion demo docs document dry_run ending environment errors failures fast_rows fields files
    formats formatting frequency functions gate gzip_files headers health http input instance integrations internals
    interrupts io_manager json_text key_sets kinds limits listing locks logs members metrics names oauth1 own raw_json
    oauth2 openapi opening opening paths ports post preview processes project protocol reading rebuilding record_schemas
    redirects reference reload report resource results routes rows sample sample_api schema scripts secrets sentences
    serve server serving servers service settings shapes sockets status steer styles system_columns table tables transport types
    upgrade urls user_assets user_value values webhook_settings widths nango sync_answers sync_execution
    sync_status paths rows_postgresql rows_sqlite engine_postgresql engine_sqlite state_of
    """.split()
)


def terms() -> set[str]:
    """The terms of the glossary in bold, in lower case and with underscores."""
    text = (ROOT / "docs" / "glossary.md").read_text()
    return {term.lower().replace(" ", "_") for term in re.findall(r"\*\*([^*]+)\*\*", text)}


def stem(name: str) -> str:
    """The noun of a module's name: `claims` and `claiming` are about the term claim."""
    return re.sub(r"ies$", "y", re.sub(r"(?<=sh)es$|(?<!s|e)s$|ing$|(?<=e)s$", "", name) if name[-3:] != "ies" else name)


def test_the_glossary_explains_every_term_that_a_module_is_named_after() -> None:
    files = [file for file in PACKAGE.rglob("*.py") if "migrations" not in file.parts]
    names = {part for file in files for part in file.relative_to(PACKAGE).with_suffix("").parts if part[0] != "_"}
    known = terms()
    explained = {name for name in names if {name, stem(name)} & known}
    assert sorted(names - explained - GENERAL) == []


def test_each_term_is_explained_once() -> None:
    rows = re.findall(r"^\| \*\*([^*]+)\*\*", (ROOT / "docs" / "glossary.md").read_text(), re.M)
    assert sorted(rows) == sorted(set(rows))
