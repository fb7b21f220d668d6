"""Trials of scripts: against the API without a store, and against recorded answers without a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from ..auth import Access
from ..config import Sync
from ..http import Reach, public_json, redact
from ..scripts import Fixture, Recorder, Replay, TrialInput, TrialResult, try_script
from ..settings import Settings
from ..sources import SourceContext
from ..templates import render_url
from .execution import source_for

REPLAYED_URL: Final = "https://replayed.example"
"""The base URL of requests that are answered from a file."""
SAVED_NOTE: Final = "Recorded by nango-dagster dry-run --save; nango-dagster test replays it."


@dataclass(frozen=True)
class Replayed:
    """The result of a replay, and its differences to what the file says."""

    result: TrialResult
    differences: tuple[str, ...]


def replay(sync: Sync, settings: Settings, fixture: Fixture) -> Replayed:
    """Run a script against the answers of a file, and compare what it did."""
    nango = fixture.nango
    sync = sync.model_copy(update={"base_url": REPLAYED_URL, "headers": {}, "query_params": {}})
    answers = Replay(fixture, lambda: REPLAYED_URL)
    connection = _object(nango.get("getConnection"))
    trial_input = TrialInput(
        metadata=_object(nango.get("getMetadata")) or _object(connection.get("metadata")),
        connection=connection,
        checkpoint=_object(nango.get("getCheckpoint")) or None,
        last_sync_date=_moment(nango.get("lastSyncDate")),
        variant=str(nango.get("variant") or "base"),
        connection_id=str(connection.get("connection_id") or "test"),
        environment=settings.env,
    )
    config = _object(connection.get("connection_config"))
    facts = {
        "connection_id": trial_input.connection_id,
        "variant": trial_input.variant,
        "metadata": trial_input.metadata or {},
        "connection_config": config,
        "credentials": _object(connection.get("credentials")),
    }
    result = try_script(sync, source_for(sync, settings), SourceContext(facts=facts, interceptor=answers), trial_input)
    differences = [str(result.error)] if result.error is not None else list(result.results.differences(nango))
    if answers.missing is not None and result.error is None:
        differences.insert(0, f"a request {answers.missing}")
    return Replayed(result, (*differences, *result.rejected))


def try_live(
    sync: Sync,
    settings: Settings,
    access: Access,
    reach: Reach,
    trial_input: TrialInput,
    is_stopped: Callable[[], bool] = lambda: False,
) -> tuple[TrialResult, dict[str, Any]]:
    """Run a script against its API and store nothing; the result, and the content of a file that replays it."""

    def base_url() -> str | None:
        return None if sync.base_url is None else render_url(sync.base_url, access.variables())

    recorder = Recorder(base_url, access.secrets, sync.query_params)
    context = SourceContext(access=access, reach=reach, facts=access.facts, interceptor=recorder, is_stopped=is_stopped)
    result = try_script(sync, source_for(sync, settings), context, trial_input)
    for name in ("saved", "updated", "deleted"):
        setattr(result, name, _starred(getattr(result, name), access))
    return result, _document(sync, trial_input, result, recorder)


def _document(sync: Sync, trial_input: TrialInput, result: TrialResult, recorder: Recorder) -> dict[str, Any]:
    connection = {name: value for name, value in trial_input.connection.items() if name == "connection_config"}
    calls: Mapping[str, Any] = {
        "batchSave": result.saved,
        "batchUpdate": result.updated,
        "batchDelete": {model: [{"id": key} for key in keys] for model, keys in result.deleted.items()},
        "getMetadata": public_json(trial_input.metadata),
        "getConnection": connection,
        "getCheckpoint": trial_input.checkpoint,
        "saveCheckpoint": result.checkpoint,
        "lastSyncDate": trial_input.last_sync_date and trial_input.last_sync_date.isoformat(),
        "variant": None if trial_input.variant == "base" else trial_input.variant,
    }
    kept = {name: value for name, value in calls.items() if value or name == "batchSave"}
    return {
        "comment": SAVED_NOTE,
        "sync": sync.name,
        "integration": sync.integration_key,
        "nango": kept,
        "api": recorder.document(),
    }


def _starred(value: Any, access: Access) -> Any:
    """JSON values without the secrets of the connection."""
    if isinstance(value, str):
        return redact(value, access.secrets())
    if isinstance(value, Mapping):
        return {name: _starred(item, access) for name, item in value.items()}
    return [_starred(item, access) for item in value] if isinstance(value, list) else value


def _object(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}


def _moment(value: Any) -> datetime | None:
    return datetime.fromisoformat(value.replace("Z", "+00:00")) if isinstance(value, str) and value else None
