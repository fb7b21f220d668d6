"""Configs of incremental and resumable syncs that do not fit, and the sentences that say what to change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nango_dagster.config import from_body, read_dir
from nango_dagster.errors import ConfigError

RECORD: dict[str, Any] = {"field": "updated_at", "request_path": "since"}

TOKEN = {"from": "response", "token_path": "t", "request_path": "token"}


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"sync_type": "incremental"}, "sync_type: incremental needs the block incremental"),
        ({"incremental": RECORD}, "incremental goes with sync_type: incremental; add that."),
        ({"incremental": {"request_path": "since"}}, "incremental.from is record, and nothing says which value"),
        ({"incremental": {"field": "a"}}, "incremental.from gives a cursor that nothing sends"),
        ({"incremental": {**RECORD, "header": "X"}}, "incremental.request_path and header both send the cursor"),
        ({"incremental": {**RECORD, "token_path": "t"}}, "incremental.token_path goes with from: response"),
        ({"incremental": {**TOKEN, "lag": 5}}, "incremental.lag is for times"),
        ({"incremental": {**TOKEN, "field": "a"}}, "incremental.field is about values in the records"),
        ({"incremental": {**RECORD, "step": "1 day"}}, "incremental.step reads windows, whose end nothing sends"),
        ({"incremental": RECORD, "track_deletes": True}, "add incremental.full_refresh"),
        (
            {"incremental": {**RECORD, "start": 0, "until": {"request_path": "to"}, "step": 60, "full_refresh": 60}},
            "incremental.step reads windows, and full_refresh the whole list in one piece",
        ),
        ({"incremental": {**RECORD, "format": "isoo"}}, 'incremental.format is "isoo"; wanted one of iso,'),
        ({"incremental": {**RECORD, "format": "%s"}}, "wanted unix instead of %s"),
        ({"incremental": {**RECORD, "format": "number", "lag": 60}}, "incremental.lag is for times, and format"),
        (
            {"incremental": {**RECORD, "format": "number", "start": "2026-01-01"}},
            "incremental.start is a time, and format: number says that the cursor is none; wanted a number.",
        ),
        (
            {"incremental": {"from": "run_start", "request_path": "since", "format": "number"}},
            "incremental.format is number, and the request has a time",
        ),
        ({"incremental": {**RECORD, "start": "soon"}}, "incremental.start is \"soon\"; wanted a date or time"),
        ({"incremental": {**RECORD, "feild": 1}}, '"incremental.feild" is no field of incremental; did you mean field'),
        ({"query_params": {"s": "${since}"}}, "${since} is a value of the block incremental, which is missing"),
        ({"resumable": True, "unique_key": None}, "resumable keeps the pages of an execution that breaks"),
        ({"deleted_path": "x", "unique_key": None}, "deleted_path deletes single records"),
    ],
)  # fmt: skip
def test_a_config_that_does_not_fit_says_what_to_change(fields: dict[str, Any], sentence: str) -> None:
    kind = {} if sentence.startswith(("incremental goes", "sync_type")) else {"sync_type": "incremental"}
    base = {"url": "https://api.example.com", "unique_key": "id"}
    with pytest.raises(ConfigError) as caught:
        from_body({**base, **(kind if "incremental" in fields else {}), **fields})
    assert sentence in str(caught.value)


def test_a_problem_of_the_block_has_its_line_and_column(tmp_path: Path) -> None:
    (tmp_path / "items.yaml").write_text(
        "url: https://api.example.com\nunique_key: id\nsync_type: incremental\nincremental:\n  field: a\n  lagg: 5\n"
    )
    (error,) = read_dir(tmp_path).errors
    places = {problem.field: (problem.line, problem.column) for problem in error.problems}
    assert places == {"incremental.lagg": (6, 3), "incremental.from": (4, 1)}
