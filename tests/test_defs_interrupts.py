"""Terminated runs: the execution ends at its next page, its job as cancelled, its claim free, within ten seconds."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
import yaml

from nango_dagster.config import Sync
from nango_dagster.defs.interrupts import Interrupts
from nango_dagster.store import Database, connections, jobs, queue, syncs
from tests.executions import Source, assert_nothing_runs, items, stored, until
from tests.fake_api import FakeApi, Received, Reply
from tests.materializing import dagster_process
from tests.processes import Command

# --- the signal itself ---------------------------------------------------------------------------------------------


class Told(BaseException):
    """The exception of Dagster's own handler."""


@pytest.fixture
def told() -> Iterator[list[int]]:
    """The signals that came to whoever handled them before."""
    seen: list[int] = []

    def handler(number: int, frame: Any) -> None:
        seen.append(number)
        raise Told

    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield seen
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_asks_to_stop_and_is_passed_on_at_the_end(told: list[int], number: signal.Signals) -> None:
    stop = threading.Event()
    with pytest.raises(Told):
        with Interrupts(stop.set):
            signal.raise_signal(number)
            assert stop.is_set() and not told
    assert told == [number]


def test_the_second_signal_interrupts_at_once(told: list[int]) -> None:
    with Interrupts(lambda: None):
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(Told):
            signal.raise_signal(signal.SIGINT)
    assert told == [signal.SIGINT]


def test_code_that_is_not_ours_is_interrupted_at_once(told: list[int]) -> None:
    with Interrupts(lambda: None) as interrupts:
        with pytest.raises(Told):
            with interrupts.at_once():
                signal.raise_signal(signal.SIGTERM)
    assert told == [signal.SIGTERM]


def test_who_does_not_stop_is_interrupted_after_a_while(told: list[int]) -> None:
    with Interrupts(lambda: None, patience=0.05):
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(Told):
            threading.Event().wait(30)
    assert told == [signal.SIGINT]


def test_handlers_are_as_before_when_nothing_came(told: list[int]) -> None:
    before = signal.getsignal(signal.SIGINT)
    with Interrupts(lambda: None):
        assert signal.getsignal(signal.SIGINT) != before
    assert signal.getsignal(signal.SIGINT) == before and not told


def test_outside_the_main_thread_nothing_is_installed() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen: list[Any] = []

    def work() -> None:
        with Interrupts(lambda: None):
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


# --- real runs -----------------------------------------------------------------------------------------------------


class Slow:
    """An API whose second page does not come; `asked` is set once somebody waits for it."""

    def __init__(self, api: FakeApi, reply: Reply = None) -> None:
        self.asked = threading.Event()
        self.source = Source(api, items(*range(1, 8)))
        self._api = api
        self._reply = reply
        self.source.broken[2] = self._second

    def _second(self, request: Received) -> Reply:
        self.asked.set()
        if self._reply is None:
            self._api.stopped.wait(60)
        return self._reply


def configure(folder: Path, sync: Sync) -> None:
    (folder / "sync_configs").mkdir()
    (folder / "sync_configs" / "items.yaml").write_text(yaml.safe_dump(sync.document()))


def terminate(process: Command) -> float:
    """End it as a termination in the UI or Kubernetes does; how many seconds that took."""
    began = monotonic()
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=60)
    assert process.returncode != 0, output
    return monotonic() - began


@pytest.mark.acceptance
@pytest.mark.parametrize(
    ("job", "reply"),
    [("items_job", None), ("items_job", (429, {"Retry-After": "30"}, "")), ("nango_dispatch", None)],
    ids=["waits for a page", "waits for a retry", "the dispatcher"],
)
def test_a_terminated_run_ends_its_job_as_cancelled_and_keeps_what_came(
    db: Database, settings_env: dict[str, str], api: FakeApi, tmp_path: Path, job: str, reply: Reply
) -> None:
    slow = Slow(api, reply)
    configure(tmp_path, slow.source.sync(unique_key="id", retries=3, timeout=600))
    process = dagster_process(["job", "execute", "-m", "nango_dagster.definitions", "-j", job], tmp_path, settings_env)
    assert slow.asked.wait(60)
    row = syncs.by_name(db, "items")
    assert row is not None
    until(lambda: queue.schedules(db, [row.id])[0].worker_id is not None)
    assert terminate(process) < 10
    (found,) = jobs.list_jobs(db, row.id)
    assert found.status == "cancelled", found
    assert found.added == 3
    assert [record["id"] for record in stored(db, row).live] == [1, 2, 3]
    assert_nothing_runs(db)


@pytest.mark.acceptance
@pytest.mark.parametrize("job", ["crm__items_job", "nango_dispatch"])
def test_a_terminated_run_of_many_connections_cancels_those_in_flight_and_frees_the_rest(
    db: Database, settings_env: dict[str, str], api: FakeApi, tmp_path: Path, job: str
) -> None:
    slow = Slow(api)
    sync = slow.source.sync(integration="crm", unique_key="id", concurrency=8, timeout=600)
    row = syncs.register(db, [sync])["items"]
    for number in range(30):
        connections.add(db, None, connections.NewConnection("crm", f"c{number}"))
    configure(tmp_path, sync)
    process = dagster_process(["job", "execute", "-m", "nango_dagster.definitions", "-j", job], tmp_path, settings_env)
    until(lambda: len(api.requests) == 16, 60, "eight connections wait for their second pages")
    assert terminate(process) < 10
    assert [job.status for job in jobs.list_jobs(db, row.id)] == ["cancelled"] * 8
    assert len(stored(db, row).live) == 8 * 3
    assert_nothing_runs(db)


OWN = """
import time
import dagster as dg
from nango_dagster.defs import NangoIOManager

@dg.asset(io_manager_key="nango", metadata={"unique_key": "id"})
def endless():
    def rows():
        for number in range(1000):
            yield {"id": number}
        open("asked", "w").close()
        time.sleep(600)
        yield {"id": "never"}
    return dg.MaterializeResult(value=rows())

defs = dg.Definitions(assets=[endless], resources={"nango": NangoIOManager()})
"""


@pytest.mark.acceptance
def test_a_terminated_asset_of_ones_own_is_cancelled_wherever_it_waits(
    db: Database, settings_env: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "own_defs.py").write_text(OWN)
    process = dagster_process(
        ["asset", "materialize", "--select", "endless", "-f", "own_defs.py"], tmp_path, settings_env
    )
    until((tmp_path / "asked").exists, 60)
    assert terminate(process) < 10
    (found,) = jobs.list_jobs(db)
    assert (found.status, found.added) == ("cancelled", 1000)
    assert_nothing_runs(db)
