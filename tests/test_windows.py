"""Deletion windows: a list that several executions read together, and the records that it does not have any more."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from nango_dagster import runs
from nango_dagster.config import Sync
from nango_dagster.runs import Outcome, Wishes
from nango_dagster.settings import Settings
from nango_dagster.sources import Ending, Model, Sink, SourceContext
from nango_dagster.store import Database, datasets, schema, syncs
from nango_dagster.store.sync_row import SyncRow
from tests.commands import Cli, write_sync

Body = Callable[[SourceContext, Sink], object]
Run = Callable[..., Outcome]
Command = Callable[..., tuple[int, str]]


@dataclass(frozen=True)
class Script:
    """A source as a sync script is one; what it returns is no matter."""

    body: Body
    models: Sequence[Model] = (Model("Contact"),)
    needs_access: bool = False

    def read(self, context: SourceContext, sink: Sink) -> Ending:
        self.body(context, sink)
        return Ending("script_ended")


@pytest.fixture
def row(db: Database) -> SyncRow:
    return syncs.register(db, [Sync(name="crm", url="http://localhost/crm", unique_key="id", resumable=True)])["crm"]


@pytest.fixture
def run(db: Database, settings: Settings, row: SyncRow) -> Run:
    def execute(body: Body, *, wishes: Wishes | None = None) -> Outcome:
        with runs.claimed(db, settings, row) as execution:
            return replace(execution, wishes=wishes or Wishes(), source=Script(body)).run()

    return execute


def texts(*keys: int) -> list[bytes]:
    return [json.dumps({"id": key}).encode() for key in keys]


def live(db: Database) -> list[int]:
    of = schema.raw.c
    with db.connect() as connection:
        keys = connection.execute(sa.select(of.external_id).where(of.deleted_at.is_(None))).scalars()
        return sorted(map(int, keys))


def kept_keys(db: Database) -> int:
    with db.connect() as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(schema.window_keys)).scalar_one()


def save(*keys: int) -> Body:
    return lambda context, sink: sink.save(texts(*keys))


def open_and_break(*keys: int) -> Body:
    """Opens a window, saves, stores a checkpoint, and fails."""

    def body(context: SourceContext, sink: Sink) -> None:
        sink.open_window()
        sink.save(texts(*keys))
        sink.save_checkpoint({"page": 1})
        raise RuntimeError("the process dies")

    return body


def close_after(*keys: int, deleted: list[str] | None = None) -> Body:
    def body(context: SourceContext, sink: Sink) -> None:
        sink.open_window()
        sink.save(texts(*keys))
        (deleted if deleted is not None else []).extend(sink.close_window())

    return body


def test_a_window_goes_on_in_the_next_execution_and_deletes_exactly_what_neither_saved(db: Database, run: Run) -> None:
    run(save(1, 2, 3, 4, 5))
    assert run(open_and_break(1, 2)).status == "failed"
    assert live(db) == [1, 2, 3, 4, 5] and kept_keys(db) == 2
    deleted: list[str] = []
    outcome = run(close_after(4, 6, deleted=deleted))
    assert (outcome.status, outcome.counts.deleted, sorted(deleted)) == ("succeeded", 2, ["3", "5"])
    assert live(db) == [1, 2, 4, 6] and kept_keys(db) == 0


def test_a_record_that_another_execution_saves_while_the_window_is_open_stays(db: Database, run: Run) -> None:
    """As a fast execution beside a slow one: it knows nothing of the window."""
    run(save(1, 2, 3))
    run(open_and_break(1))
    assert run(save(7)).status == "succeeded"
    run(close_after(2))
    assert live(db) == [1, 2, 7]


def test_what_the_execution_saved_before_it_opened_the_window_counts(db: Database, run: Run) -> None:
    def body(context: SourceContext, sink: Sink) -> None:
        sink.save(texts(1))
        assert sink.open_window() is False and sink.open_window() is True
        sink.save(texts(2))
        assert sink.close_window() == ["3"]

    run(save(1, 2, 3))
    assert run(body).counts.deleted == 1
    assert live(db) == [1, 2]


def test_a_window_that_would_delete_too_much_stays_open_until_somebody_accepts_that(db: Database, run: Run) -> None:
    run(save(*range(100)))
    run(open_and_break(1))
    refused = run(close_after(2))
    assert refused.status == "failed" and "98 of 100 records are gone" in (refused.error or "")
    assert len(live(db)) == 100 and kept_keys(db) == 2
    accepted = run(close_after(3), wishes=Wishes(accept_deletes=True))
    assert (accepted.counts.deleted, live(db)) == (97, [1, 2, 3])


def test_a_record_without_a_key_in_any_execution_keeps_a_window_from_deleting(db: Database, run: Run) -> None:
    def unreadable(context: SourceContext, sink: Sink) -> None:
        sink.open_window()
        sink.save([b'{"name": "no key"}', *texts(1)])
        sink.save_checkpoint({"page": 1})

    run(save(1, 2, 3))
    run(unreadable)
    outcome = run(close_after(2))
    assert outcome.counts.deleted == 0 and any("nothing was deleted" in line for line in outcome.warnings)
    assert live(db) == [1, 2, 3] and kept_keys(db) == 0, "the window is closed, and the next one is its own"
    run(close_after(1))
    assert live(db) == [1]


def test_to_close_a_window_that_is_not_open_is_an_error(run: Run) -> None:
    outcome = run(lambda context, sink: sink.close_window())
    assert outcome.status == "failed" and "no deletion window of Contact is open" in (outcome.error or "")


@pytest.mark.parametrize("wishes", [Wishes(reset=True), Wishes(empty_cache=True)])
def test_a_reset_closes_the_window_and_deletes_nothing_for_it(db: Database, run: Run, wishes: Wishes) -> None:
    run(save(1, 2))
    run(open_and_break(1))
    assert run(save(1, 2), wishes=wishes).status == "succeeded"
    assert kept_keys(db) == 0 and live(db) == [1, 2]


def test_a_dropped_window_deletes_nothing(db: Database, run: Run) -> None:
    run(save(1, 2))
    run(open_and_break(1))
    run(lambda context, sink: sink.drop_window())
    assert kept_keys(db) == 0 and live(db) == [1, 2]


@pytest.mark.parametrize("settings_env", ["sqlite"], indirect=True)
def test_many_keys_do_not_wait_in_memory_for_a_checkpoint(
    db: Database, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nango_dagster.store.upsert._WINDOW_KEYS", 10)
    counts: list[int] = []

    def body(context: SourceContext, sink: Sink) -> None:
        sink.open_window()
        for start in range(0, 50, 5):
            sink.save(texts(*range(start, start + 5)))
            sink.commit()
            counts.append(kept_keys(db))

    run(body)
    assert counts[-1] == 50


CALLS = st.lists(st.tuples(st.sampled_from(["save", "save", "update", "delete"]), st.integers(0, 12)), max_size=8)


@hypothesis_settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
@given(
    before=st.sets(st.integers(0, 12), max_size=10),
    parts=st.lists(st.tuples(CALLS, st.booleans()), min_size=1, max_size=4),
)
@pytest.mark.parametrize("settings_env", ["sqlite"], indirect=True)
def test_executions_that_break_anywhere_delete_exactly_what_none_of_them_saved(
    db: Database, run: Run, before: set[int], parts: list[tuple[list[tuple[str, int]], bool]]
) -> None:
    """An update of a live record counts as one that is at the source; one that is deleted inside stays deleted."""
    run(save(*before), wishes=Wishes(empty_cache=True))
    for calls, breaks in parts[:-1]:
        run(in_window(calls, ends="breaks" if breaks else "goes on"))
    run(in_window(parts[-1][0], ends="closes"))
    expected, seen = set(before), set()
    for call, key in (call for calls, _ in parts for call in calls):
        if call == "save":
            expected.add(key)
        if key in expected:
            seen.add(key)
        if call == "delete":
            expected.discard(key)
            seen.discard(key)
    assert set(live(db)) == expected & seen


def in_window(calls: Sequence[tuple[str, int]], *, ends: str) -> Body:
    """Opens a window or goes on with it, makes the calls, and ends."""

    def body(context: SourceContext, sink: Sink) -> None:
        sink.open_window()
        for call, key in calls:
            if call == "save":
                sink.save(texts(key))
            elif call == "update":
                sink.update(texts(key))
            else:
                sink.delete([str(key)])
        if ends == "closes":
            sink.close_window()
        elif ends == "breaks":
            sink.save_checkpoint({"page": 1})
            raise RuntimeError("the process dies")

    return body


# --- the checkpoint, seen and changed by people ---------------------------------------------------------------------


@pytest.fixture
def command(settings_env: dict[str, str], row: SyncRow) -> Command:
    write_sync("crm", url="http://localhost/crm", unique_key="id", resumable=True)

    def call(*arguments: str) -> tuple[int, str]:
        said = Cli(settings_env)("checkpoint", "crm", *arguments)
        return said.status, said.stdout + said.stderr

    return call


def test_people_see_set_and_clear_a_checkpoint(db: Database, command: Command, run: Run) -> None:
    assert command() == (0, "crm: no checkpoint\n")
    run(open_and_break(1))
    assert command() == (0, 'crm: {"page": 1}\n')
    code, text = command("--set", '{"page": 7}')
    assert (code, text) == (0, "Set the checkpoint of crm.\nThe next execution begins there.\n")
    assert kept_keys(db) == 0, "the window belonged to the checkpoint before"
    given: list[Any] = []
    run(lambda context, sink: given.append(context.checkpoint))
    command("--clear")
    run(lambda context, sink: given.append(context.checkpoint))
    assert given == [{"definition": "any", "page": 7}, None]


@pytest.mark.parametrize("settings_env", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("page 3", "the checkpoint is no JSON"),
        ("[1]", "the checkpoint is [1]; wanted an object"),
        ('{"page": {}}', "the checkpoint's field 'page' is {}; wanted a text, a finite number or a boolean"),
        ('{"pages": 3}', 'a checkpoint has no field "pages"; did you mean page?'),
        ('{"page": true}', "the checkpoint's field 'page' is True; wanted a whole number."),
        ('{"started_at": "today"}', "the checkpoint's field 'started_at' is 'today'; wanted a time such as"),
    ],
)
def test_a_checkpoint_that_cannot_be_stored_is_refused(command: Command, text: str, sentence: str) -> None:
    code, output = command("--set", text)
    assert code == 1 and sentence in output


def test_the_checkpoint_of_a_running_execution_is_left_alone(command: Command, run: Run) -> None:
    answers: list[tuple[int, str]] = []
    run(lambda context, sink: answers.append(command("--clear")))
    assert answers[0][0] == 1 and "crm is being executed; cancel that first" in answers[0][1]


def test_an_outcome_says_from_where_to_where_the_checkpoint_moved(db: Database, run: Run) -> None:
    assert run(save(1)).checkpoint is None
    run(open_and_break(1))

    def body(context: SourceContext, sink: Sink) -> None:
        sink.save_checkpoint({"page": 2})
        sink.save_checkpoint({"page": 3})

    change = run(body).checkpoint
    assert change is not None and (change.before, change.after) == ({"page": 1}, {"page": 3})


def test_a_dataset_without_a_window_has_none(db: Database, row: SyncRow) -> None:
    dataset = datasets.find_or_make(db, row.id, "default", "default", "base", "Contact")
    assert dataset.window_opened_at is None and not dataset.window_is_doubtful
