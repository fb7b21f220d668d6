"""Show, set and clear checkpoints: how far executions have read."""

from __future__ import annotations

import json
from typing import Any

from ..checkpoint import Checkpoint
from ..errors import ConfigError, Refused
from ..incremental import manual_checkpoint
from ..partition_keys import BASE
from ..store import queue
from ..store.status import Status
from .report import Report
from .selection import Selection


def of_text(text: str) -> Checkpoint:
    """The checkpoint that a person wrote as JSON. Raises ConfigError where it is no object.

    >>> of_text('{"page": 3}')
    {'page': 3}
    """
    try:
        checkpoint = json.loads(text)
    except ValueError as error:
        raise ConfigError(f'the checkpoint is no JSON: {error}; wanted an object such as {{"page": 3}}.') from None
    if not isinstance(checkpoint, dict):
        raise ConfigError(f'the checkpoint is {text[:80]}; wanted an object such as {{"page": 3}}.')
    return checkpoint


def show(selection: Selection) -> Report:
    """The checkpoint of each selected connection and variant."""
    lines = [f"{_name(status)}: {status.checkpoint or 'no checkpoint'}" for status in selection.statuses]
    shown = [_document(status) for status in selection.statuses]
    return Report("\n".join(lines), "", selection.document(checkpoints=shown))


def replace(selection: Selection, checkpoint: Checkpoint | None) -> Report:
    """Set the checkpoints of the selection, or clear them with None; the next execution begins there.

    Raises Refused while one of them is being executed, whose checkpoint would replace it, and ConfigError for a
    checkpoint that is not flat, or that the list of a config cannot continue at.
    """
    sync = selection.row.sync
    if checkpoint is not None and sync.script is None:
        checkpoint = manual_checkpoint(sync, checkpoint)
    count = 0 if selection.running else selection.apply(queue.set_checkpoint, checkpoint=checkpoint)
    if not count:
        raise Refused(f"{selection} is being executed; cancel that first (nango-dagster cancel). Nothing was done.")
    document = selection.document(changed=count, checkpoint=checkpoint)
    if checkpoint is None:
        return Report(f"Cleared the checkpoint of {selection}.", "The next execution begins at the start.", document)
    return Report(f"Set the checkpoint of {selection}.", "The next execution begins there.", document)


def _name(status: Status) -> str:
    if not status.row.sync.partitioned:
        return status.row.name
    return status.connection_id if status.variant == BASE else f"{status.connection_id}, variant {status.variant}"


def _document(status: Status) -> dict[str, Any]:
    checkpoint = None if status.checkpoint is None else json.loads(status.checkpoint)
    return {"connection_id": status.connection_id, "variant": status.variant, "checkpoint": checkpoint}
