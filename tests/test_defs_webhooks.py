"""The sensor `nango_webhooks`, as Dagster evaluates it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa

from nango_dagster.defs import names
from nango_dagster.settings import Settings
from nango_dagster.store import Database, outbox, schema
from tests.executions import Source, items
from tests.fake_api import FakeApi
from tests.materializing import Project


@pytest.fixture
def receiver() -> Iterator[FakeApi]:
    """The receiver of the webhooks."""
    with FakeApi() as server:
        server.route("/hook", {})
        yield server


def tick(project: Project) -> str:
    """The message of a tick."""
    sensor = project.defs.resolve_sensor_def(names.WEBHOOKS)
    with dg.build_sensor_context(instance=project.instance, resources={names.RESOURCE: project.nango}) as context:
        decided = sensor.evaluate_tick(context)
    assert not decided.run_requests
    return decided.skip_message or ""


def test_what_a_run_has_changed_is_told_by_the_next_tick(
    settings: Settings, api: FakeApi, receiver: FakeApi, tmp_path: Path
) -> None:
    source = Source(api, items(1, 2, 3))
    sync = source.sync(unique_key="id")
    told = replace(settings, webhook_url=receiver.url + "/hook", webhook_signing_key="k")
    with Project(told, sync, home=tmp_path / "dagster") as project:
        assert tick(project) == "nothing waits."
        assert project.sync().success
        assert tick(project) == "delivered 1 webhook."
        (got,) = receiver.requests
        assert (got.json["syncName"], got.json["model"]) == (sync.name, sync.model)
        assert (got.json["syncType"], got.json["responseResults"]) == (
            "INITIAL",
            {"added": 3, "updated": 0, "deleted": 0},
        )
        assert project.sync().success
        assert tick(project) == "nothing waits." and len(receiver.requests) == 1


def test_a_receiver_that_fails_is_no_failure_of_the_tick(
    settings: Settings, api: FakeApi, receiver: FakeApi, db: Database
) -> None:
    receiver.script("/hook", (500, {}, b""), {})
    sync = Source(api, items(1)).sync(unique_key="id")
    with Project(replace(settings, webhook_url=receiver.url + "/hook"), sync) as project:
        assert project.sync().success
        because = f"{receiver.url} answered 500 Internal Server Error."
        assert tick(project) == f"delivered 0 webhooks; 1 failed and will be tried again, the last because {because}"
        assert tick(project) == "1 webhook will be tried again later: nango-dagster webhooks list."
        with db.begin() as connection:
            connection.execute(sa.update(schema.webhooks).values(next_try_at=schema.webhooks.c.created_at))
        assert tick(project) == "delivered 1 webhook."
        first, second = receiver.requests
        assert first.headers["X-Nango-Delivery-Id"] == second.headers["X-Nango-Delivery-Id"]
        assert outbox.depth(db) == {"pending": 0, "dead": 0}


def test_without_a_url_it_is_there_and_says_what_is_missing(settings: Settings, api: FakeApi) -> None:
    with Project(settings, Source(api, items(1)).sync(unique_key="id")) as project:
        sensor = project.defs.resolve_sensor_def(names.WEBHOOKS)
        assert sensor.default_status is dg.DefaultSensorStatus.RUNNING
        assert project.sync().success
        assert tick(project) == "NANGO_WEBHOOK_URL is not set, and nothing waits."


def test_a_database_that_is_down_is_told_of(settings: Settings, tmp_path: Path) -> None:
    away = replace(settings, db_url="postgresql+psycopg://nango:s3cret@127.0.0.1:1/nango", webhook_url="http://a/b")
    with Project(away) as project:
        said = tick(project)
    assert "cannot reach the database" in said and "s3cret" not in said
