"""Replay the recorded tests of a Nango project: each sync runs, and its stored records are compared with the recorded.

    python -m benchmarks.replay_scripts PROJECT [--only PATTERN] [--sample N] [--command] [--rounds 2]

PROJECT is a folder with `index.ts`, `node_modules` and `<integration>/tests/<sync>.test.json`. Its requests go through
an HTTPS proxy of this process, which answers them as they were recorded. Nothing of the project is copied. With
`--command` each sync runs as `nango-dagster run`, else in this process.
"""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.recorded_api import Recorded, RecordedApi
from nango_dagster import runs
from nango_dagster.config import Sync, placeholders
from nango_dagster.errors import NangoError
from nango_dagster.node.configs import read_configs
from nango_dagster.settings import Settings
from nango_dagster.store import Database, connections, datasets, listing, open_database, syncs
from nango_dagster.store.listing import RecordSelection
from nango_dagster.vault import vault_of


@dataclass
class Result:
    """The comparison of one sync."""

    name: str
    cause: str | None = None
    """Why the records differ; None where they are exact."""
    unmatched: Sequence[str] = ()
    seconds: float = 0.0
    details: list[str] = field(default_factory=list)


def main() -> None:
    """Replay, and print a line for each sync that is not exact, and the share of those that are."""
    parser = argparse.ArgumentParser()
    parser.add_argument("project", type=Path)
    parser.add_argument("--only", default="*")
    parser.add_argument("--sample", type=int)
    parser.add_argument("--command", action="store_true")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--fault", choices=("500", "429", "reset"))
    parser.add_argument("--home", type=Path)
    options = parser.parse_args()
    root = options.project.resolve()
    home = options.home or Path(tempfile.mkdtemp(prefix="nango-replay-"))
    api = RecordedApi(home, fault=options.fault)
    os.environ.update(api.environment())
    environment = {"NANGO_HOME": str(home), "NANGO_SCRIPTS": str(root), "NANGO_SYNC_CONFIGS": str(home / "none")}
    os.environ.update(environment)
    settings = Settings.from_env(environment, dotenv=None)
    began = time.process_time()
    configs = read_configs(settings, refresh=True)
    print(
        f"{len(configs.syncs)} syncs, {len(configs.errors)} errors; {time.process_time() - began:.1f} CPU s of Python"
    )
    chosen = [sync for sync in configs.syncs if fnmatch.fnmatch(f"{sync.integration_key}/{sync.name}", options.only)]
    chosen = [sync for sync in chosen if _test_file(root, sync).is_file()]
    if options.sample:
        chosen = random.Random(options.sample).sample(chosen, min(options.sample, len(chosen)))
    results = []
    with contextlib.closing(open_database(settings)) as database:
        replay = Replay(settings, database, api, root, options.rounds, options.command)
        for sync in chosen:
            result = replay.run(sync)
            results.append(result)
            if result.cause:
                print(f"{result.name}: {result.cause}", *result.details[:3], *list(result.unmatched)[:3], sep="\n    ")
                sys.stdout.flush()
    exact = sum(result.cause is None for result in results)
    print(f"exact: {exact} of {len(results)} ({100 * exact / max(1, len(results)):.1f} %)")
    print(Counter((result.cause or "exact").split(":")[0] for result in results).most_common())


def _test_file(root: Path, sync: Sync) -> Path:
    return root / sync.integration_key / "tests" / f"{sync.name}.test.json"


class Replay:
    """Runs syncs for connections of their own."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        api: RecordedApi,
        root: Path,
        rounds: int,
        command: bool,
    ) -> None:
        self.settings, self.database, self.api, self.root = settings, database, api, root
        self.rounds, self.command = rounds, command

    def run(self, sync: Sync) -> Result:
        """The comparison of one sync."""
        name = f"{sync.integration_key}/{sync.name}"
        recorded = json.loads(_test_file(self.root, sync).read_text())
        began = time.monotonic()
        try:
            cause, details = self._compare(sync, recorded)
        except NangoError as error:
            cause, details = f"{type(error).__name__}: {error}"[:300], []
        return Result(name, cause, self.api.unmatched, time.monotonic() - began, details)

    def _compare(self, sync: Sync, recorded: Mapping[str, Any]) -> tuple[str | None, list[str]]:
        nango = recorded.get("nango") or {}
        row = syncs.register(self.database, [sync])[sync.name]
        self._connect(sync, nango)
        for number in range(self.rounds):
            self.api.load(Recorded.of(recorded.get("api") or {}))
            error = self._execute(sync, row)
            if error is not None:
                return f"failed: {error}"[:600], []
            cause, details = self._difference(row, sync, nango)
            if cause is not None:
                return (cause if number == 0 else f"round {number + 1}: {cause}"), details
        return None, []

    def _execute(self, sync: Sync, row: Any) -> str | None:
        if self.command:
            arguments = [sys.executable, "-m", "nango_dagster.cli", "run", f"{sync.integration_key}/{sync.name}"]
            done = subprocess.run([*arguments, "--connection", sync.name], capture_output=True, text=True)
            return None if done.returncode == 0 else done.stderr.strip()[-500:]
        with runs.claimed(self.database, self.settings, row, connection_id=sync.name) as execution:
            outcome = execution.run()
        return None if outcome.status == "succeeded" else f"{outcome.error} {outcome.stack or ''}"

    def _connect(self, sync: Sync, nango: Mapping[str, Any]) -> None:
        """A connection with the recorded metadata and credentials, and a value for each part of the base URL."""
        recorded = nango.get("getConnection") or {}
        config = dict(recorded.get("connection_config") or {})
        for text in (sync.base_url, *sync.headers.values(), *sync.query_params.values()):
            for name in placeholders([text]):
                first, _, rest = name.partition(".")
                if first == "connection_config" and text == sync.base_url:
                    whole = str(text).startswith("${")
                    config.setdefault(rest, "https://recorded.example" if whole else "recorded")
        metadata = nango.get("getMetadata") or recorded.get("metadata") or {}
        credentials = dict(
            recorded.get("credentials") or {"type": "BASIC", "username": "u", "password": "p", "apiKey": "k"}
        )
        new = connections.NewConnection(
            sync.integration_key,
            sync.name,
            credentials=credentials,
            metadata=metadata if isinstance(metadata, dict) else {},
            config=config,
        )
        connections.add(self.database, vault_of(self.settings), new)

    def _difference(self, row: Any, sync: Sync, nango: Mapping[str, Any]) -> tuple[str | None, list[str]]:
        saved, deleted = nango.get("batchSave") or {}, nango.get("batchDelete") or {}
        for model in list(sync.models) or [sync.model]:
            stored = dict(self._stored(row, sync, model))
            gone = {str(record.get("id")) for record in deleted.get(model) or ()}
            expected: dict[str, list[Any]] = {}
            for record in saved.get(model) or ():
                expected.setdefault(str(record.get("id")), []).append(record)
            missing = [key for key in expected if key not in stored and key not in gone]
            extra = [key for key in stored if key not in expected]
            wrong = [
                key for key in stored if key in expected and not any(_same(stored[key], it) for it in expected[key])
            ]
            if missing or extra or wrong:
                details = [
                    f"{model}: {len(expected)} recorded, {len(stored)} stored, {len(missing)} missing {missing[:2]}, "
                    f"{len(extra)} extra {extra[:2]}, {len(wrong)} different"
                ]
                for key in wrong[:1]:
                    details += list(_differences(expected[key][0], stored[key]))[:3]
                return "different", details
        return None, []

    def _stored(self, row: Any, sync: Sync, model: str) -> Iterator[tuple[str, Any]]:
        dataset = datasets.find(self.database, sync.integration_key, sync.name, "base", model)
        selection: RecordSelection | None = RecordSelection() if dataset is not None else None
        while selection is not None and dataset is not None:
            page = listing.page(self.database, dataset.id, selection, 500)
            for record in page.records:
                if record.deleted_at is None and record.text:
                    yield record.external_id, json.loads(record.text)
            selection = RecordSelection(after=page.next) if page.next is not None else None


def _same(stored: Any, recorded: Any) -> bool:
    return bool(stored == recorded)


def _differences(recorded: Any, stored: Any, path: str = "") -> Iterator[str]:
    if isinstance(recorded, dict) and isinstance(stored, dict):
        for name in sorted({*recorded, *stored}):
            yield from _differences(recorded.get(name, "(absent)"), stored.get(name, "(absent)"), f"{path}.{name}")
    elif recorded != stored:
        yield f"{path}: recorded {str(recorded)[:80]!r}, stored {str(stored)[:80]!r}"


if __name__ == "__main__":
    main()
