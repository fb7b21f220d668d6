"""A delivering process may die at any moment: no event is lost, and a repeated event has the same id."""

from __future__ import annotations

import signal
from collections import defaultdict

import pytest

from nango_dagster.store import Database, outbox
from tests.crash_worker import Workers
from tests.delivering import delivery_ids, pass_time, put
from tests.fake_api import FakeApi


@pytest.fixture
def settings_env(settings_env: dict[str, str], api: FakeApi) -> dict[str, str]:
    """The API is the receiver."""
    api.route("/hook", {})
    settings_env["NANGO_WEBHOOK_URL"] = api.url + "/hook"
    return settings_env


def test_a_process_killed_between_any_two_statements_loses_no_notification(
    db: Database, api: FakeApi, workers: Workers
) -> None:
    put(db, "first", "second", "third")
    undisturbed = workers.run("", deliver=True)
    assert undisturbed.counts == {"arrived": 3}
    expected = {"first", "second", "third"}
    killed = 0
    for at in range(1, undisturbed.statements + 3):
        names = {f"{at}-{number}" for number in range(3)}
        expected |= names
        put(db, *sorted(names))
        killed += workers.run("", deliver=True, kill_at=at).killed_by == signal.SIGKILL
        pass_time(db)
        workers.run("", deliver=True)
        assert outbox.depth(db) == {"pending": 0, "dead": 0}, at
    assert killed >= undisturbed.statements - 1
    came = defaultdict(set)
    for request, delivery_id in zip(api.requests, delivery_ids(api.requests), strict=True):
        came[request.json["connectionId"]].add(delivery_id)
    assert came == {name: {f"d-{name}"} for name in expected}
    assert len(api.requests) > len(expected), "some have come twice"
