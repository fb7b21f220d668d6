"""The benchmark measures what it says: its API gives the lists, and a contestant that leaves wrong rows fails it.

No test here looks at a time: figures are for people, and for a machine that does nothing else.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import requests

from benchmarks import records
from benchmarks.__main__ import NAMES, main
from benchmarks.api import serving
from benchmarks.contestants import CONTESTANTS, Contestant
from benchmarks.databases import Sqlite
from benchmarks.for_each import Api, measure
from benchmarks.for_each import serving as serving_parents
from benchmarks.incremental import Figures
from benchmarks.measure import BenchmarkFailed, Usage
from benchmarks.records import CHANGED_COMMENTS, List, Outcome
from benchmarks.report import medians
from benchmarks.rounds import STEPS, Run, play
from nango_dagster.settings import Settings
from tests.conftest import ROOT

COUNT = 300
OUTCOMES = {step.name: records.outcome(step.list, COUNT) for step in STEPS}


@pytest.mark.acceptance
@pytest.mark.long
def test_every_contestant_does_every_step_rightly(tmp_path: Path) -> None:
    """On SQLite; the outcomes are compared by the benchmark itself, which fails where one is wrong."""
    document, said = benchmark(tmp_path, "--only", "sqlite")
    done = [(run["contestant"], run["step"], run["listed"]) for run in document["runs"]]
    assert done == [(name, step, outcome.live) for name in NAMES for step, outcome in OUTCOMES.items()]
    assert all(row["ratio"] > 0 for row in document["medians"])
    for word in (*NAMES, *OUTCOMES, "records/s", "x limit", "client CPU s", "server CPU s", "peak MB"):
        assert word in said


@pytest.mark.acceptance
@pytest.mark.postgresql
def test_a_server_is_measured_too(tmp_path: Path, pg_server: str) -> None:
    document, said = benchmark(tmp_path, "--only", "limit,engine,postgresql", "--pg-url", pg_server)
    assert {(run["contestant"], run["database"]) for run in document["runs"]} == {
        ("limit", "postgresql"),
        ("engine", "postgresql"),
    }
    assert "PostgreSQL" in said and "lz4" in said


def benchmark(folder: Path, *arguments: str) -> tuple[dict[str, Any], str]:
    """The figures of one round, and what is printed."""
    file = folder / "figures.json"
    command = [sys.executable, "-m", "benchmarks", "--records", str(COUNT), "--rounds", "1", "--json", str(file)]
    ended = subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return json.loads(file.read_text()), ended.stdout


@pytest.mark.acceptance
def test_a_contestant_that_leaves_wrong_rows_fails_the_benchmark() -> None:
    forgetful = Contestant("forgetful", "limit", "keeps every other row", live="id % 2 = 0")
    with serving(10) as api, pytest.raises(BenchmarkFailed) as failed:
        list(play(api, [Sqlite()], [forgetful], 10, rounds=1))
    assert str(failed.value) == (
        "forgetful, sqlite, 10 records, first load: 5 live rows, 0 of them changed; "
        "wanted 10 live rows, 0 of them changed."
    )


@pytest.mark.acceptance
def test_a_contestant_that_breaks_says_why() -> None:
    broken = Contestant("broken", "no_such_module", "")
    with serving(1) as api, pytest.raises(BenchmarkFailed, match=r"No module named .*no_such_module"):
        list(play(api, [Sqlite()], [broken], 1, rounds=1))


def test_the_api_gives_each_record_of_a_list_once() -> None:
    with serving(COUNT) as api:
        for step in STEPS:
            found = [record for page in pages(f"{api.url}/issues?list={step.list}&page_size=70") for record in page]
            assert len({record["id"] for record in found}) == len(found)
            changed = sum(record["comments"] >= CHANGED_COMMENTS for record in found)
            assert Outcome(len(found), changed) == OUTCOMES[step.name]
        assert requests.get(f"{api.url}/issues?list=first&page_size=many", timeout=10).status_code == 400


def test_the_api_gives_an_account_its_whole_list_in_one_page() -> None:
    with serving(COUNT) as api:
        lists = [requests.get(f"{api.url}/issues?account={number}&size=50", timeout=10).json() for number in (0, 1, 99)]
    assert [len(one["results"]) for one in lists] == [50, 50, 50]
    assert lists[0] != lists[1]


def pages(url: str) -> list[list[dict[str, Any]]]:
    """The list in pages, each as it was asked for."""
    found, following = [], url
    while following:
        body = requests.get(following, timeout=10).json()
        found.append(body["results"])
        cursor = body["paging"]["next"]
        following = f"{url}&after={cursor['after']}" if cursor else ""
    return found


@pytest.mark.parametrize("list_", ["changed", "gone"])
def test_about_one_percent_of_a_list_changes(list_: List) -> None:
    found = records.outcome(list_, 20_000)
    assert 150 < found.changed < 250
    assert found.live == 20_000 if list_ == "changed" else 150 < 20_000 - found.live < 250


def test_a_record_is_the_same_whenever_it_is_made() -> None:
    assert records.issue(7) == records.issue(7)
    assert records.issue(7) != records.issue(8)
    assert set(records.issue(7, changed=True)) == set(records.issue(7))


def test_ratios_are_to_the_limit_of_the_same_step_and_of_medians() -> None:
    rows = medians(
        [
            *(figures("limit", "first load", seconds) for seconds in (1, 2, 50)),
            *(figures("engine", "first load", seconds) for seconds in (3, 4, 5)),
            figures("limit", "unchanged", 1),
            figures("engine", "unchanged", 4),
        ]
    )
    assert [(row.contestant, row.step, row.records_per_second, row.ratio) for row in rows] == [
        ("limit", "first load", 50, 1),
        ("engine", "first load", 25, 0.5),
        ("limit", "unchanged", 100, 1),
        ("engine", "unchanged", 25, 0.25),
    ]


def test_there_is_no_ratio_without_the_limit() -> None:
    (row,) = medians([figures("engine", "first load", 3)])
    assert row.ratio is None


def figures(contestant: str, step: str, seconds: float) -> Run:
    """A run over 100 records."""
    return Run(contestant, "sqlite", step, 100, 1, 100, Usage(seconds, 1, 50), None, 0)


def test_an_unknown_name_is_answered_with_the_names_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--only", "airbyte"])
    said = capsys.readouterr().err
    assert "no airbyte; wanted limit, engine, dagster, pandas, sqlite, postgresql" in said
    assert {contestant.name for contestant in CONTESTANTS} == set(NAMES)


@pytest.mark.parametrize("settings_env", ["sqlite"], indirect=True)
def test_as_many_lists_are_requested_as_parents_changed(settings: Settings) -> None:
    api = Api(40)
    with serving_parents(api):
        steps = measure(settings, api, changed=5)
    assert [(step.name, step.lists) for step in steps] == [("first", 40), ("changed", 5), ("unchanged", 0)]


def test_an_incremental_execution_is_compared_with_both_full_ones() -> None:
    figures = Figures(100_000, 1000, first=20, full=8, incremental=0.6, unchanged=0.1, process_start=0.5)
    assert figures.is_cheap and "full, 1 % changed                         8.00         7.5%              0.66" in str(
        figures
    )
    assert not Figures(100_000, 1000, first=20, full=4, incremental=0.6, unchanged=0.1, process_start=0.5).is_cheap
