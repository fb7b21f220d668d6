"""The metadata and the checkpoint of a script, compared with the schemas that it declares for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..checkpoint import Checkpoint
from ..config import Sync
from ..errors import ConfigError, ScriptError
from ..models import misfit, validator


def check_metadata(sync: Sync, connection_id: str, metadata: Mapping[str, Any] | None) -> None:
    """Raise ConfigError where the metadata of a connection does not fit `metadata_model`."""
    if reason := _misfit(sync.metadata_model, metadata or {}):
        raise ConfigError(
            f"{sync.display_name}: the metadata of the connection {connection_id} does not fit metadata_model: "
            f"{reason}. Change it with nango-dagster connections metadata."
        )


def check_checkpoint(sync: Sync, checkpoint: Checkpoint) -> None:
    """Raise ScriptError where a checkpoint that a script saves does not fit `checkpoint_model`."""
    if reason := _misfit(sync.checkpoint_model, checkpoint):
        raise ScriptError(f"{sync.display_name}: the checkpoint does not fit checkpoint_model: {reason}")


def outdated(sync: Sync, checkpoint: Checkpoint | None) -> str | None:
    """A sentence about a stored checkpoint that does not fit `checkpoint_model` any more; None where it fits."""
    reason = None if checkpoint is None else _misfit(sync.checkpoint_model, checkpoint)
    if reason is None:
        return None
    return f"the stored checkpoint does not fit checkpoint_model: {reason}; the execution starts over without it."


def _misfit(schema: Mapping[str, Any] | None, value: Mapping[str, Any]) -> str | None:
    return None if schema is None else misfit(validator(schema), dict(value))
