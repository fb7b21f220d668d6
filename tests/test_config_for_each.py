"""`for_each` in config files: the errors of one sync, and those of a sync and its parents together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nango_dagster.config import Configs, Sync, from_body, read_dir
from nango_dagster.errors import ConfigError

ISSUES = "url: https://api.example.com/issues\nunique_key: id\n"
COMMENTS = (
    "url: https://api.example.com/issues/${parent.id}/comments\nunique_key: id\nfor_each:\n  sync: issues\n  path: id\n"
)


def project(tmp_path: Path, **files: str) -> Configs:
    for name, text in files.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    return read_dir(tmp_path)


def sentences(configs: Configs) -> list[str]:
    """The file, line and column of each problem, with its sentence."""
    problems = [problem for error in configs.errors for problem in error.problems]
    return [
        f"{Path(str(problem.file)).name}:{problem.line}:{problem.column}: {problem.sentence}" for problem in problems
    ]


def test_a_sync_may_have_parents_that_have_parents(tmp_path: Path) -> None:
    reactions = COMMENTS.replace("sync: issues", "sync: comments").replace("comments\n", "reactions\n", 1)
    configs = project(tmp_path, issues=ISSUES, comments=COMMENTS, reactions=reactions)
    assert (configs.errors, len(configs.syncs)) == ((), 3)
    each = {sync.name: sync.for_each for sync in configs.syncs}["comments"]
    assert each is not None
    assert (each.sync, each.path, each.field, each.where_changed) == ("issues", "id", "parent_id", False)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            {"comments": COMMENTS.replace("issues\n", "issue\n")},
            [
                'comments.yaml:4:3: for_each.sync is "issue", and the integration default has no valid sync of this '
                "name; did you mean issues?"
            ],
        ),
        (
            {"comments": f"{COMMENTS}integration: github\n"},
            ['comments.yaml:4:3: for_each.sync is "issues", and the integration github has no valid sync of this name'],
        ),
        (
            {"comments": COMMENTS.replace("sync: issues", "sync: comments")},
            ['comments.yaml:4:3: for_each.sync is "comments", which leads back to comments: comments -> comments;'],
        ),
        (
            {"issues": COMMENTS.replace("sync: issues", "sync: comments")},
            [
                'comments.yaml:4:3: for_each.sync is "issues", which leads back to comments: comments -> issues',
                'issues.yaml:4:3: for_each.sync is "comments", which leads back to issues: issues -> comments',
            ],
        ),
        (
            {"issues": "url: https://api.example.com/issues\n"},
            ['comments.yaml:4:3: for_each.sync is "issues", which has no unique_key, so its records cannot be told'],
        ),
        (
            {"issues": "url: 5\n", "reactions": COMMENTS.replace("sync: issues", "sync: comments")},
            [
                "issues.yaml:1:1: url cannot be used",
                'comments.yaml:4:3: for_each.sync is "issues", and the integration default has no valid sync',
                'reactions.yaml:4:3: for_each.sync is "comments", and the integration default has no valid sync',
            ],
        ),
    ],
)
def test_a_sync_without_a_valid_parent_is_an_error_with_its_line(
    tmp_path: Path, files: dict[str, str], expected: list[str]
) -> None:
    found = sentences(project(tmp_path, **{"issues": ISSUES, "comments": COMMENTS, **files}))
    assert len(found) == len(expected), found
    for sentence, beginning in zip(found, expected, strict=True):
        assert sentence.startswith(beginning)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        (
            {"for_each": None},
            "${parent.id} in url belongs to a parent, and this sync has no for_each",
        ),
        (
            {"unique_key": None},
            "for_each adds the records of many lists to each other, which takes a unique_key",
        ),
        ({"url": "https://api.example.com/all"}, "for_each would read the same list for each parent; put ${parent.id}"),
        ({"url": "${parent.comments_url}"}, "url begins with a value of the parent, so the API's records would choose"),
        ({"url": "https://${parent.id}.example.com"}, "url begins with a value of the parent"),
        ({"query_params": {"since": "${last_sync_date}"}}, "${last_sync_date} is the same for all parents"),
        ({"for_each": {"sync": "issues"}}, "for_each.path is missing; wanted a path."),
        ({"deleted_path": "gone"}, "deleted_path is not available with for_each"),
        ({"resumable": True}, "resumable has one position for the whole sync, and for_each one for each parent"),
    ],
)
def test_fields_that_do_not_fit_for_each_are_errors(fields: dict[str, object], sentence: str) -> None:
    each = {"sync": "issues", "path": "id"}
    body = {"name": "comments", "url": "https://api.example.com/${parent.id}", "unique_key": "id", "for_each": each}
    with pytest.raises(ConfigError) as caught:
        from_body({**body, **fields})
    assert any(problem.sentence.startswith(sentence) for problem in caught.value.problems), str(caught.value)


def test_only_a_change_of_the_lists_changes_their_version() -> None:
    each = {"sync": "issues", "path": "id"}
    fields: dict[str, Any] = {"url": "https://api.example.com/${parent.id}", "for_each": each}
    sync = Sync(name="comments", unique_key="id", **fields)
    versions = {
        sync.model_copy(update=change).list_version(values)
        for change in ({}, {"frequency": 5}, {"description": "x"}, {"url": "https://api.example.com/v2/${parent.id}"})
        for values in ({}, {"metadata.owner": "a"})
    }
    assert len(versions) == 4
