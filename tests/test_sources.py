"""The guarantees of an execution to its source: a script that saves, updates and deletes several models."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from dagster import AssetKey
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from nango_dagster import runs
from nango_dagster.config import Sync, TrackDeletes
from nango_dagster.defs import checks
from nango_dagster.errors import NangoError
from nango_dagster.runs import Outcome, Wishes
from nango_dagster.settings import Settings
from nango_dagster.sources import Ending, Model, Sink, SourceContext
from nango_dagster.store import Database, schema, syncs
from nango_dagster.store.sync_row import SyncRow
from tests.executions import last_job

CONTACT, DEAL = Model("Contact"), Model("Deal")
Body = Callable[[SourceContext, Sink], Ending | None]
Records = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Script:
    """A source as a sync script is one: a function that is handed the sink."""

    body: Body
    models: Sequence[Model] = (CONTACT, DEAL)
    needs_access: bool = False

    def read(self, context: SourceContext, sink: Sink) -> Ending:
        return self.body(context, sink) or Ending("script_ended")


@pytest.fixture
def row(db: Database) -> SyncRow:
    sync = Sync(name="crm", url="http://localhost/crm", unique_key="id")
    return syncs.register(db, [sync])[sync.name]


@pytest.fixture
def run(db: Database, settings: Settings, row: SyncRow) -> Callable[..., Outcome]:
    def execute(body: Body, *, wishes: Wishes | None = None, models: Sequence[Model] = (CONTACT, DEAL)) -> Outcome:
        with runs.claimed(db, settings, row) as execution:
            return replace(execution, wishes=wishes or Wishes(), source=Script(body, models)).run()

    return execute


def texts(*records: dict[str, Any]) -> list[bytes]:
    return [json.dumps(record).encode() for record in records]


def live(db: Database) -> dict[str, Records]:
    """The live records by model and key; models that never had one are left out."""
    of, datasets = schema.raw.c, schema.datasets
    query = sa.select(datasets.c.model, of.external_id, sa.cast(of.data, sa.Text), of.deleted_at).join_from(
        schema.raw, datasets, datasets.c.id == of.dataset_id
    )
    found: dict[str, Records] = {}
    with db.connect() as connection:
        for model, key, text, deleted_at in connection.execute(query):
            records = found.setdefault(model, {})
            if deleted_at is None:
                records[key] = json.loads(text)
    return found


def checkpoint(db: Database) -> Any:
    with db.connect() as connection:
        text = connection.execute(sa.select(schema.schedules.c.checkpoint)).scalar()
    return json.loads(text) if text else None


# --- several models ---------------------------------------------------------------------------------------------------


def test_a_script_saves_updates_and_deletes_records_of_two_models(db: Database, run: Callable[..., Outcome]) -> None:
    def first(context: SourceContext, sink: Sink) -> None:
        sink.save(texts({"id": 1, "name": "Ada"}, {"id": 2, "name": "Bob", "address": {"city": "Rome", "zip": "1"}}))
        sink.save(texts({"id": "a", "amount": 5}, {"id": "b", "amount": 6}), "Deal")
        assert sink.update(texts({"id": 2, "address": {"city": "Oslo"}}, {"id": 9, "name": "nobody"})) == 1
        assert sink.delete(["a", "z"], "Deal") == 1

    outcome = run(first)
    assert (outcome.status, outcome.counts.added, outcome.counts.updated, outcome.counts.deleted) == (
        "succeeded", 4, 1, 1,
    )  # fmt: skip
    assert live(db) == {
        "Contact": {
            "1": {"id": 1, "name": "Ada"},
            "2": {"id": 2, "name": "Bob", "address": {"city": "Oslo", "zip": "1"}},
        },
        "Deal": {"b": {"id": "b", "amount": 6}},
    }
    assert run(lambda context, sink: sink.save(texts({"id": "b", "amount": 6}), "Deal")).counts.unchanged == 1


def test_each_model_has_a_table_of_its_own(db: Database, row: SyncRow, run: Callable[..., Outcome]) -> None:
    def body(context: SourceContext, sink: Sink) -> None:
        sink.save(texts({"id": 1, "name": "Ada"}))
        sink.save(texts({"id": 7, "amount": 5}), "Deal")
        sink.commit()
        sink.delete(["7"], "Deal")

    run(body)
    with db.connect() as connection:
        contacts = connection.exec_driver_sql(f"SELECT name FROM _nango_sync_{row.id}").scalars().all()
        deals = connection.exec_driver_sql(
            f"SELECT amount FROM _nango_sync_{row.id}_deal WHERE _nango_deleted_at IS NOT NULL"
        ).scalars()
        assert (list(contacts), [int(amount) for amount in deals]) == (["Ada"], [5])


def test_what_a_complete_execution_did_not_save_is_deleted_only_where_the_model_tracks_that(
    db: Database, run: Callable[..., Outcome]
) -> None:
    models = (replace(CONTACT, track_deletes=TrackDeletes()), DEAL)

    def save(*ids: int) -> Body:
        def body(context: SourceContext, sink: Sink) -> None:
            sink.save(texts(*({"id": id} for id in ids)))
            sink.save(texts(*({"id": id} for id in ids)), "Deal")

        return body

    run(save(1, 2), models=models)
    run(lambda context, sink: Ending("stopped", complete=False), models=models)
    assert [*live(db)["Contact"]] == ["1", "2"]
    assert run(save(2), models=models).counts.deleted == 1
    assert {model: [*records] for model, records in live(db).items()} == {"Contact": ["2"], "Deal": ["1", "2"]}


def test_a_record_that_vanished_is_found_also_after_the_script_has_deleted_another(
    db: Database, run: Callable[..., Outcome]
) -> None:
    models = (replace(CONTACT, track_deletes=TrackDeletes()),)
    run(lambda context, sink: sink.save(texts({"id": 1}, {"id": 2}, {"id": 3})), models=models)

    def body(context: SourceContext, sink: Sink) -> None:
        sink.save(texts({"id": 1}, {"id": 2}))
        sink.delete(["2"])

    assert run(body, models=models).counts.deleted == 2
    assert [*live(db)["Contact"]] == ["1"]


def test_a_deleted_record_that_is_saved_again_counts_as_added(db: Database, run: Callable[..., Outcome]) -> None:
    def body(context: SourceContext, sink: Sink) -> None:
        sink.save(texts({"id": 1}))
        sink.delete(["1"])
        sink.save(texts({"id": 1}))

    outcome = run(body)
    assert (outcome.counts.added, outcome.counts.deleted, [*live(db)["Contact"]]) == (2, 1, ["1"])


def test_without_a_unique_key_nothing_is_committed_before_the_end(db: Database, run: Callable[..., Outcome]) -> None:
    models = (replace(CONTACT, unique_key=None),)
    for call in (
        lambda context, sink: sink.save_checkpoint({"page": 1}),
        lambda context, sink: sink.delete(["1"]),
        lambda context, sink: sink.update(texts({"id": 1})),
        lambda context, sink: sink.commit(),
    ):
        error = run(call, models=models).error
        assert error is not None and "the model Contact has no unique_key" in error
    assert run(lambda context, sink: sink.save(texts({"id": 1}, {"id": 1})), models=models).counts.added == 2


def test_a_model_that_is_not_declared_is_refused_with_those_that_are(run: Callable[..., Outcome]) -> None:
    outcome = run(lambda context, sink: sink.save(texts({"id": 1}), "Lead"))
    assert (outcome.status, outcome.error) == ("failed", "crm: it saves no model Lead; its models are Contact, Deal.")


# --- checkpoints ------------------------------------------------------------------------------------------------------


def test_a_checkpoint_is_given_to_the_next_execution_until_a_reset(db: Database, run: Callable[..., Outcome]) -> None:
    given: list[Any] = []

    def body(context: SourceContext, sink: Sink) -> None:
        given.append(context.checkpoint)
        sink.save(texts({"id": len(given)}))
        sink.save_checkpoint({"page": len(given), "done": False})

    run(body)
    run(body)
    run(body, wishes=Wishes(reset=True))
    assert given == [None, {"page": 1, "done": False}, None]
    run(lambda context, sink: sink.save_checkpoint(None))
    assert checkpoint(db) is None


def test_a_reset_forgets_the_checkpoint_also_when_the_execution_fails(
    db: Database, run: Callable[..., Outcome]
) -> None:
    run(lambda context, sink: sink.save_checkpoint({"page": 1}))

    def fail(context: SourceContext, sink: Sink) -> None:
        raise NangoError("the API is away.")

    run(fail, wishes=Wishes(reset=True))
    assert checkpoint(db) is None


def test_a_checkpoint_and_the_records_before_it_are_one_transaction(db: Database, run: Callable[..., Outcome]) -> None:
    """The database refuses the checkpoint: then the records of its transaction are not there, either."""
    run(lambda context, sink: sink.save(texts({"id": 0}), "Deal"))
    refuse_checkpoints(db)

    def body(context: SourceContext, sink: Sink) -> None:
        sink.save(texts({"id": 1}), "Deal")
        sink.save_checkpoint({"page": 1})

    outcome = run(body)
    assert outcome.status == "failed" and outcome.error is not None and "no checkpoints" in outcome.error
    assert (live(db)["Deal"], checkpoint(db)) == ({"0": {"id": 0}}, None)


def refuse_checkpoints(db: Database) -> None:
    """A trigger that lets nobody store a checkpoint."""
    with db.begin() as connection:
        if db.engine.name == "postgresql":
            connection.exec_driver_sql(
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN RAISE EXCEPTION 'no checkpoints'; END $$"
            )
            connection.exec_driver_sql(
                "CREATE TRIGGER refuse BEFORE UPDATE ON _nango_schedules FOR EACH ROW "
                "WHEN (NEW.checkpoint IS NOT NULL) EXECUTE FUNCTION refuse()"
            )
        else:
            connection.exec_driver_sql(
                "CREATE TRIGGER refuse BEFORE UPDATE ON _nango_schedules WHEN NEW.checkpoint IS NOT NULL "
                "BEGIN SELECT RAISE(ABORT, 'no checkpoints'); END"
            )


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"page": {"nested": 1}}, "the checkpoint's field 'page' is {'nested': 1}; wanted a text, a finite number"),
        ({"page": None}, "the checkpoint's field 'page' is None"),
        ({"page": float("nan")}, "the checkpoint's field 'page' is nan"),
        ({"page": "x" * 4001}, "the checkpoint's field 'page' has 4,001 characters; wanted at most 4,000"),
        ({"x" * 256: 1}, "has a name of 256 characters; wanted at most 255"),
        (dict.fromkeys(map(str, range(17)), 1), "the checkpoint has 17 fields; wanted at most 16"),
    ],
)
def test_a_checkpoint_that_is_not_flat_is_refused(run: Callable[..., Outcome], wrong: Any, said: str) -> None:
    outcome = run(lambda context, sink: sink.save_checkpoint(wrong))
    assert outcome.status == "failed" and outcome.error is not None and said in outcome.error


# --- ends -------------------------------------------------------------------------------------------------------------


def two_pages(between: Callable[[], None]) -> Body:
    """Saves a page with its checkpoint, then `between`, then another."""

    def body(context: SourceContext, sink: Sink) -> None:
        sink.save(texts({"id": 1}))
        sink.save(texts({"id": "a"}), "Deal")
        sink.save_checkpoint({"page": 1})
        between()
        sink.save(texts({"id": 2}))
        sink.save_checkpoint({"page": 2})

    return body


def test_what_a_failed_script_has_saved_is_kept_and_nothing_is_deleted(
    db: Database, row: SyncRow, run: Callable[..., Outcome]
) -> None:
    models = (replace(CONTACT, track_deletes=TrackDeletes()), DEAL)
    run(lambda context, sink: sink.save(texts({"id": 0})), models=models)

    def fail() -> None:
        raise RuntimeError("the script has a mistake")

    outcome = run(two_pages(fail), models=models)
    assert (outcome.status, outcome.error, outcome.counts.added) == ("failed", "the script has a mistake", 2)
    assert "RuntimeError" in (last_job(db, row).error_stack or "")
    assert {model: [*records] for model, records in live(db).items()} == {"Contact": ["0", "1"], "Deal": ["a"]}
    assert checkpoint(db) == {"page": 1}


@pytest.mark.parametrize("swallows", [False, True], ids=["lets it pass", "catches everything"])
def test_a_cancelled_script_ends_at_its_next_call(
    db: Database, settings: Settings, row: SyncRow, swallows: bool
) -> None:
    def body(context: SourceContext, sink: Sink) -> None:
        try:
            two_pages(execution.stopping.set)(context, sink)
        except Exception:
            if not swallows:
                raise
        if swallows:
            sink.save(texts({"id": 3}))

    with runs.claimed(db, settings, row) as execution:
        outcome = replace(execution, source=Script(body)).run()
    assert (outcome.status, last_job(db, row).status) == ("cancelled", "cancelled")
    assert "3" not in live(db)["Contact"] and checkpoint(db) == {"page": 1}


def test_an_error_of_the_store_that_a_script_catches_ends_the_execution_all_the_same(
    db: Database, run: Callable[..., Outcome]
) -> None:
    refuse_checkpoints(db)

    def body(context: SourceContext, sink: Sink) -> None:
        for page in range(3):
            try:
                sink.save(texts({"id": page}))
                sink.save_checkpoint({"page": page})
            except Exception:
                continue

    outcome = run(body)
    assert outcome.status == "failed" and "no checkpoints" in (outcome.error or "")
    assert [*live(db)["Contact"]] == ["0"]


def test_a_script_that_is_taken_for_dead_writes_nothing_more_and_the_next_goes_on_from_its_checkpoint(
    db: Database, settings: Settings, row: SyncRow, run: Callable[..., Outcome]
) -> None:
    reached, go_on = threading.Event(), threading.Event()
    ended: list[Outcome] = []

    def hang() -> None:
        reached.set()
        assert go_on.wait(60)

    def first() -> None:
        with runs.claimed(db, settings, row, run_id="first") as execution:
            ended.append(replace(execution, source=Script(two_pages(hang))).run())

    thread = threading.Thread(target=first)
    thread.start()
    try:
        assert reached.wait(60)
        with db.begin() as connection:
            connection.execute(sa.update(schema.workers).values(heartbeat_at=db.clock(timedelta(minutes=5))))

        def second(context: SourceContext, sink: Sink) -> None:
            assert context.checkpoint == {"page": 1}
            sink.save(texts({"id": 20}))
            sink.save_checkpoint({"page": 20})

        assert run(second).status == "succeeded"
    finally:
        go_on.set()
        thread.join(60)
    assert ended[0].status == "lost"
    assert [*live(db)["Contact"]] == ["1", "20"] and checkpoint(db) == {"page": 20}


# --- a list that may have more pages ----------------------------------------------------------------------------------

DOUBT = 'no answer has anything at the paging path "paging.next".'


def doubtful(*ids: int) -> Body:
    """Saves records and ends with a doubt."""

    def body(context: SourceContext, sink: Sink) -> Ending:
        sink.save(texts(*({"id": id} for id in ids)))
        return Ending("paging_not_found", complete=False, doubt=DOUBT)

    return body


def test_a_doubtful_end_is_a_warning_and_deletes_nothing(
    db: Database, row: SyncRow, run: Callable[..., Outcome]
) -> None:
    models = (replace(CONTACT, track_deletes=TrackDeletes()),)
    run(doubtful(1, 2), models=models)
    outcome = run(doubtful(2, 3), models=models)
    assert (outcome.status, outcome.complete, outcome.counts.deleted) == ("succeeded", False, 0)
    assert last_job(db, row).warnings == [f"the list may have more pages, so nothing was deleted: {DOUBT}"]
    assert [*live(db)["Contact"]] == ["1", "2", "3"]
    check = checks.evaluate(AssetKey("crm"), outcome)
    assert not check.passed and check.description is not None and DOUBT in check.description


def test_without_a_unique_key_a_doubtful_end_stores_a_list_that_lacks_no_row(
    db: Database, run: Callable[..., Outcome]
) -> None:
    models = (replace(CONTACT, unique_key=None),)
    assert run(doubtful(1, 2), models=models).counts.added == 2
    assert run(doubtful(1, 2, 3), models=models).counts.added == 1
    outcome = run(doubtful(1, 2), models=models)
    assert (outcome.status, outcome.counts.deleted) == ("failed", 0)
    assert outcome.error is not None and outcome.error.startswith(
        f"crm: the list lacks 1 stored row and may have more pages: {DOUBT} "
    )
    assert outcome.error.endswith("run the sync once with --accept-deletes.")
    assert sorted(record["id"] for record in live(db)["Contact"].values()) == [1, 2, 3]
    accepted = run(doubtful(1, 2), models=models, wishes=Wishes(accept_deletes=True))
    assert (accepted.status, accepted.counts.deleted) == ("succeeded", 1)
    assert accepted.warnings == (f"the list may have more pages: {DOUBT}",)


# --- any order of calls -----------------------------------------------------------------------------------------------

KEYS = st.sampled_from(["1", "2", "3"])
MODELS = st.sampled_from(["Contact", "Deal"])
FIELDS = st.dictionaries(st.sampled_from(["x", "y"]), st.integers(0, 3), max_size=2)
CALLS = st.lists(
    st.one_of(
        st.tuples(st.just("save"), MODELS, KEYS, FIELDS),
        st.tuples(st.just("update"), MODELS, KEYS, FIELDS),
        st.tuples(st.just("delete"), MODELS, KEYS, st.just({})),
    ),
    max_size=12,
)
Call = tuple[str, str, str, dict[str, int]]


def expected(calls: Sequence[Call]) -> dict[str, Records]:
    found: dict[str, Records] = {"Contact": {}, "Deal": {}}
    for verb, model, key, fields in calls:
        records = found[model]
        if verb == "save":
            records[key] = {"id": key, **fields}
        elif verb == "delete":
            records.pop(key, None)
        elif key in records:
            records[key] = {**records[key], **fields}
    return found


@given(calls=CALLS, breaks=st.lists(st.integers(0, 12), max_size=2), every=st.integers(1, 4))
@hypothesis_settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_script_that_breaks_anywhere_and_goes_on_from_its_checkpoint_stores_what_it_would_have_stored(
    run: Callable[..., Outcome], db: Database, calls: list[Call], breaks: list[int], every: int
) -> None:
    def body(stop: int | None) -> Body:
        def read(context: SourceContext, sink: Sink) -> None:
            start = int((context.checkpoint or {}).get("calls", 0))
            for number, (verb, model, key, fields) in enumerate(calls[start:], start):
                if number == stop:
                    raise NangoError("broken here.")
                if verb == "delete":
                    sink.delete([key], model)
                else:
                    getattr(sink, verb)(texts({"id": key, **fields}), model)
                if number % every == 0:
                    sink.save_checkpoint({"calls": number + 1})

        return read

    run(lambda context, sink: None, wishes=Wishes(empty_cache=True))
    for stop in breaks:
        run(body(stop))
    assert run(body(None)).status == "succeeded"
    assert {model: records for model, records in live(db).items() if records} == {
        model: records for model, records in expected(calls).items() if records
    }
