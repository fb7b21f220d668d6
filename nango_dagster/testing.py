"""Tests of sync scripts: run a function without a network and a database, or replay a file of recorded answers.

>>> from nango_dagster import sync
>>> @sync(base_url="https://api.example.com")
... def items(nango):
...     for page in nango.paginate("/items", response_path="items"):
...         yield page
>>> result = run_script(items, {"GET /items": {"items": [{"id": 1}, {"id": 2}]}})
>>> result.saved["Items"]
[{'id': 1}, {'id': 2}]
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from .config import from_document, read_dir
from .config.scripts import MARK
from .errors import ConfigError
from .runs.trying import REPLAYED_URL, replay
from .scripts import Fixture, PythonScript, Replay, TrialInput, TrialResult, try_script
from .settings import Settings
from .sources import SourceContext

__all__ = ["TrialResult", "replay_file", "run_script"]


def run_script(
    function: Callable[..., Any],
    answers: Mapping[str, Any] | None = None,
    *,
    metadata: Mapping[str, Any] | None = None,
    connection: Mapping[str, Any] | None = None,
    checkpoint: Mapping[str, str | int | float | bool] | None = None,
    last_sync_date: datetime | None = None,
    variant: str = "base",
) -> TrialResult:
    """Run a function that `@sync` has decorated; nothing is stored, and no request leaves the process.

    `answers` are bodies by method and path, such as `"GET /items"`; a list holds successive answers, and a tuple a
    status and a body. The result has the records by model (`saved`, `updated`, `deleted`), the `checkpoint`, the
    `metadata`, and sentences about records that do not fit (`rejected`). Raises what the script raises, as an error of
    this package.
    """
    fields = getattr(function, MARK, None)
    if fields is None:
        raise ConfigError(f"{getattr(function, '__name__', function)} is no script; decorate it with @sync.")
    described = from_document({**fields, "script": f"tested:{function.__name__}"})
    described = described.model_copy(update={"base_url": REPLAYED_URL, "headers": {}, "query_params": {}})
    document = {"nango": {}, "api": _by_method(answers or {})}
    recorded = Replay(Fixture(Path("answers"), document), lambda: REPLAYED_URL)
    trial_input = TrialInput(metadata, connection or {}, checkpoint, last_sync_date, variant)
    source = PythonScript(described, Path(), function)
    result = try_script(described, source, SourceContext(interceptor=recorded), trial_input)
    if result.error is not None:
        raise result.error
    return result


def replay_file(file: str | Path, configs: str | Path = "sync_configs", sync: str | None = None) -> TrialResult:
    """Run the script of a recorded file, or of a folder `mocks/SYNC`, and compare what it does with the recording.

    `sync` is the name of the script where the file does not tell it. Raises AssertionError with all differences.
    """
    fixture = Fixture.read(Path(file))
    name = sync or str(fixture.document.get("sync") or fixture.path.name.removesuffix(".test.json"))
    scripts = [config for config in read_dir(configs).syncs if config.script]
    named = [config for config in scripts if config.name.replace("-", "_") == name]
    named = named or [config for config in scripts if config.name == name]
    if not named:
        raise ConfigError(f"{file}: {os.fspath(configs)} has no script {name}.")
    settings = Settings.from_env({"NANGO_SYNC_CONFIGS": os.fspath(configs)}, dotenv=None)
    replayed = replay(named[0], settings, fixture)
    assert not replayed.differences, "\n".join(replayed.differences)
    return replayed.result


def _by_method(answers: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The answers as a file has them."""
    by_method: dict[str, dict[str, Any]] = {}
    for key, value in answers.items():
        method, _, path = key.partition(" ")
        several = value if isinstance(value, list) else [value]
        by_method.setdefault(method.lower(), {})[path.strip()] = [_answer(answer) for answer in several]
    return by_method


def _answer(value: Any) -> dict[str, Any]:
    status, body = value if isinstance(value, tuple) else (200, value)
    return {"response": body, "status": status}
