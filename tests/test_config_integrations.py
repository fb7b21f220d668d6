"""Declared integrations: the fields that their syncs inherit, and the errors about them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from nango_dagster.config import Configs, Sync, integrations_schema, read_dir, read_file

GITHUB = """
github:
  display_name: GitHub
  base_url: https://api.github.com/v3/
  headers: {Authorization: "token ${access_token}", Accept: application/json}
  query_params: {per_page: 100}
  paging_header_link_rel: next
  paging_limit_request_path: per_page
  paging_limit: 50
  retries: 5
  rate_limit: {requests: 10, per: minute}
  allowed_origins: ["https://uploads.github.com"]
  unique_key: id
"""


def project(tmp_path: Path, **files: str) -> Configs:
    """The configs of a folder with these files; `a_yaml` is `a.yaml`, and `integrations__a_yaml` one of a folder."""
    for name, text in files.items():
        stem, _, suffix = name.replace("__", "/").rpartition("_")
        file = tmp_path / f"{stem}.{suffix}"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    return read_dir(tmp_path)


def one(configs: Configs) -> Sync:
    assert not configs.errors
    (sync,) = configs.syncs
    return sync


def sentences(configs: Configs, tmp_path: Path) -> list[str]:
    """The file, line and column of each problem, with its sentence."""
    problems = [problem for error in configs.errors for problem in error.problems]
    return [
        f"{Path(str(problem.file)).name}:{problem.line}:{problem.column}: {problem.sentence}" for problem in problems
    ]


def test_a_sync_inherits_the_fields_of_its_integration(tmp_path: Path) -> None:
    sync = one(
        project(tmp_path, integrations_yaml=GITHUB, issues_yaml="integration: github\nurl: /repos/a/issues?state=all\n")
    )
    assert sync.url == "https://api.github.com/v3/repos/a/issues?state=all"
    assert sync.headers == {"Authorization": "token ${access_token}", "Accept": "application/json"}
    assert (sync.query_params, sync.paging_header_link_rel, sync.paging_limit) == ({"per_page": "100"}, "next", 50)
    assert (sync.retries, sync.unique_key, sync.allowed_origins) == (5, "id", ["https://uploads.github.com"])
    assert sync.rate_limit is not None and sync.rate_limit.requests == 10


def test_a_field_of_the_sync_wins_and_that_of_its_files_defaults_too(tmp_path: Path) -> None:
    text = """
    defaults: {integration: github, retries: 1}
    syncs:
      issues: {url: /issues, headers: {accept: text/csv}, query_params: {state: all}, unique_key: null}
    """
    sync = one(project(tmp_path, integrations_yaml=GITHUB, issues_yaml=text))
    assert (sync.retries, sync.unique_key) == (1, None)
    assert sync.headers == {"Authorization": "token ${access_token}", "accept": "text/csv"}
    assert sync.query_params == {"per_page": "100", "state": "all"}


@pytest.mark.parametrize(
    ("own", "way"),
    [
        ("paging_page_request_path: page", "paging_page_request_path"),
        ("paging_url_path: next", "paging_url_path"),
        ("paging_header_link_rel: null", None),
    ],
)
def test_a_sync_with_paging_of_its_own_inherits_the_page_size_alone(tmp_path: Path, own: str, way: str | None) -> None:
    sync = one(project(tmp_path, integrations_yaml=GITHUB, a_yaml=f"integration: github\nurl: /a\n{own}\n"))
    ways = {name for name in Sync.model_fields if name.startswith("paging_") and getattr(sync, name)}
    assert ways == {"paging_limit", "paging_limit_request_path", *([way] if way else [])}


def test_each_integration_may_have_a_file_and_values_of_the_connection_in_its_url(tmp_path: Path) -> None:
    base = "base_url: https://${metadata.region}.example.com/${connection_config.account}\n"
    following = "next_request: {url: /items/more}\npaging_url_path: next\n"
    configs = project(
        tmp_path, integrations__crm_yaml=base, a_yaml=f"integration: crm\nurl: /items\nunique_key: id\n{following}"
    )
    sync = one(configs)
    assert sync.url == "https://${metadata.region}.example.com/${connection_config.account}/items"
    assert sync.next_request is not None
    assert sync.next_request.url == sync.url + "/more"
    assert [integration.name for integration in configs.integrations] == ["crm"]
    assert read_file(tmp_path / "a.yaml") == [sync]


def test_a_changed_integration_changes_the_syncs_that_inherit_from_it(tmp_path: Path) -> None:
    files = {"a_yaml": "integration: github\nurl: /a\n", "b_yaml": "integration: github\nurl: /b\nretries: 1\n"}
    first = {sync.name: sync.fingerprint() for sync in project(tmp_path, integrations_yaml=GITHUB, **files).syncs}
    changed = GITHUB.replace("retries: 5", "retries: 6")
    second = {sync.name: sync.fingerprint() for sync in project(tmp_path, integrations_yaml=changed, **files).syncs}
    assert first["a"] != second["a"]
    assert first["b"] == second["b"]


def test_without_declared_integrations_a_sync_may_name_any(tmp_path: Path) -> None:
    assert one(project(tmp_path, a_yaml="integration: github\nurl: https://api.github.com/a\n")).integration == "github"


@pytest.mark.parametrize(
    ("integrations", "sync", "expected"),
    [
        (
            GITHUB,
            "url: https://a.example\nintegration: gitlab\n",
            [
                'a.yaml:2:1: integration is "gitlab", which no file declares; did you mean github? Declare it in '
                "integrations.yaml."
            ],
        ),
        (
            "github:\n  base_url: nowhere\n  retrys: 3\n",
            "url: /a\nintegration: github\n",
            [
                "integrations.yaml:2:3: base_url cannot be used; wanted a URL such as https://api.example.com/items.",
                'integrations.yaml:3:3: "retrys" is no field of an integration; did you mean retries?',
                'a.yaml:2:1: integration is "github", which is not valid: see integrations.yaml:2.',
            ],
        ),
        (
            "github:\n  retries: many\n",
            "url: https://a.example\n",
            ['integrations.yaml:2:3: retries is "many"; wanted a whole number from 0 to 100.'],
        ),
        (
            "github: {base_url: 'https://${nothing}.example.com'}\n",
            "url: https://a.example\n",
            ["integrations.yaml:1:10: ${nothing} in base_url names nothing; wanted"],
        ),
        ("github: 7\n", "url: https://a.example\n", ['integrations.yaml:1:1: the integration "github" is no object']),
        (
            "github:\n  paging_limit: 5\n",
            "url: https://a.example\nintegration: github\n",
            ["integrations.yaml:2:3: paging_limit goes with paging_limit_request_path"],
        ),
        (
            "github:\n  retries: 1\n",
            "integration: github\nurl: /a\n",
            [
                "a.yaml:2:1: url cannot be used; wanted a URL such as https://api.example.com/items, or base_url in "
                "the sync's integration."
            ],
        ),
        (
            "- github\n",
            "integration: github\nurl: /a\n",
            ["integrations.yaml:None:None: the file holds no object", 'a.yaml:1:1: integration is "github", which is'],
        ),
    ],
)
def test_an_error_names_the_file_line_and_column(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, integrations: str, sync: str, expected: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    found = sentences(project(tmp_path, integrations_yaml=integrations, a_yaml=sync), tmp_path)
    assert len(found) == len(expected), found
    for sentence, beginning in zip(found, expected, strict=True):
        assert sentence.startswith(beginning)


@pytest.mark.parametrize("text", [GITHUB, "{base_url: https://a.example, timeout: 5s, paging_respone_path: next}"])
def test_the_schema_accepts_the_files_that_are_valid(text: str) -> None:
    document: Any = yaml.safe_load(text)
    assert jsonschema.Draft202012Validator(integrations_schema()).is_valid(document)
    document["nothing"] = 1
    assert not jsonschema.Draft202012Validator(integrations_schema()).is_valid(document)
