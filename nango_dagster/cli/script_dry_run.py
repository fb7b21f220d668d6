"""`dry-run` of a sync script: what it would save, without storing it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..checkpoint import Checkpoint, check_flat
from ..config import Sync
from ..errors import ConfigError
from .command import Session, as_json, fail
from .formatting import number_of

if TYPE_CHECKING:
    from ..auth import Access
    from ..http import Reach
    from ..scripts import TrialResult

SHOWN = 3  # records of a model


@dataclass(frozen=True)
class ScriptOptions:
    """The options of a dry run that only scripts have."""

    checkpoint: str | None = None
    metadata: str | None = None
    last_sync_date: str | None = None
    variant: str = "base"
    save: Path | None = None

    @property
    def given(self) -> tuple[str, ...]:
        """The names of those that are set, such as `--checkpoint`."""
        return tuple(
            f"--{option.name.replace('_', '-')}"
            for option in fields(self)
            if getattr(self, option.name) != option.default
        )


def dry_run_script(session: Session, sync: Sync, access: Access, reach: Reach, options: ScriptOptions) -> None:
    """Run a script against its API, and show what it would save; with `save` write a file that replays it."""
    from ..runs.trying import try_live
    from ..scripts import TrialInput

    facts = access.facts
    metadata = _object("metadata", options.metadata)
    trial_input = TrialInput(
        metadata=facts.get("metadata") if metadata is None else metadata,
        connection={"connection_config": facts.get("connection_config") or {}},
        checkpoint=_checkpoint(options.checkpoint),
        last_sync_date=_moment(options.last_sync_date),
        variant=options.variant,
        connection_id=str(facts.get("connection_id") or "default"),
        environment=session.settings.env,
    )
    result, document = try_live(sync, session.settings, access, reach, trial_input)
    error = None if result.error is None else str(result.error)
    if options.save is not None and error is None:
        options.save.parent.mkdir(parents=True, exist_ok=True)
        options.save.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    answer = {
        "sync": sync.name,
        "saved": result.saved,
        "updated": result.updated,
        "deleted": result.deleted,
        "checkpoint": result.checkpoint,
        "metadata": result.metadata,
        "rejected": result.rejected,
        "warnings": list(result.ending.warnings) if result.ending else [],
        "requests": result.numbers.requests,
        "error": error,
    }
    session.answer(answer, *_for_people(sync, result, options.save if error is None else None))
    if error is not None:
        fail(error)


def _for_people(sync: Sync, result: TrialResult, saved_to: Path | None) -> Iterator[str]:
    for verb, by_model in (("save", result.saved), ("update", result.updated), ("delete", result.deleted)):
        for model, records in by_model.items():
            first = "; the first ones:" if len(records) > SHOWN else ":"
            yield f"{sync.display_name} would {verb} {number_of(len(records), 'record')} of {model}{first}"
            yield from map(as_json, records[:SHOWN])
    if not (result.saved or result.updated or result.deleted):
        yield f"{sync.display_name} would save no records."
    yield from (f"not good: {sentence}" for sentence in result.rejected)
    yield f"checkpoint: {'none' if result.checkpoint is None else as_json(dict(result.checkpoint))}"
    yield f"{number_of(result.numbers.requests, 'request')} sent; nothing was stored."
    if result.ending is not None:
        yield from (f"warning: {sentence}" for sentence in result.ending.warnings)
    if saved_to is not None:
        yield f"saved to {saved_to}; replay it with: nango-dagster test {saved_to}"


def _object(name: str, text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, Mapping):
        raise ConfigError(f"--{name} is {text[:60]!r}; wanted a JSON object, such as '{{\"page\": 2}}'.")
    return dict(value)


def _checkpoint(text: str | None) -> Checkpoint | None:
    checkpoint = _object("checkpoint", text)
    if checkpoint is not None:
        check_flat(checkpoint)
    return checkpoint


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise ConfigError(f"--last-sync-date is {text[:60]!r}; wanted a time, such as 2026-01-31T12:00:00Z.") from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=timezone.utc)


def script_options(function: Any) -> Any:
    """Add the options of scripts to a command."""
    for decorator in (
        click.option("--save", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False),
                     help="A script: write its requests and results to a file that `test` replays."),
        click.option("--variant", metavar="NAME", default="base", help="A script: the variant."),
        click.option("--last-sync-date", metavar="TIME", help="A script: its last_sync_date."),
        click.option("--metadata", metavar="JSON", help="A script: the metadata instead of that of the connection."),
        click.option("--checkpoint", metavar="JSON", help="A script: the checkpoint to begin at."),
    ):  # fmt: skip
        function = decorator(function)
    return function
