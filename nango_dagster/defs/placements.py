"""The place of a sync in a Dagster project: its asset key, its job and schedule, and the function that executes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from dagster import AssetKey

from ..config import Sync
from ..runs import Execution, Outcome, Progress
from . import names

Report = Callable[[Progress], None]
"""Receives the progress of an execution, after each page."""
Execute = Callable[[Execution, Report], Outcome]
"""Executes a sync for one connection; it is called in several threads at once."""
Status = Literal["running", "stopped"]


def execute(execution: Execution, report: Report) -> Outcome:
    """Execute a sync for one connection: read the API and store the records."""
    return execution.run(report)


@dataclass(frozen=True)
class SyncOptions:
    """How the definitions of syncs are named and run.

    >>> SyncOptions(job_prefix="crm_", default_status="stopped", pool="crm").op_tags
    {}
    """

    job_prefix: str = ""
    """The beginning of the names of jobs, schedules and ops."""
    default_status: Status = "running"
    """The status of schedules and sensors until somebody starts or stops them in Dagster."""
    op_tags: Mapping[str, str] = field(default_factory=dict)
    """Tags of the ops, such as `dagster-k8s/config`."""
    pool: str | None = None
    """The concurrency pool of the ops."""
    posted: bool = True
    """Whether a folder's definitions also contain the syncs that were posted over HTTP."""
    execute: Execute = execute
    """The function that executes a sync for one connection."""


@dataclass(frozen=True)
class Placement:
    """The names of a sync's definitions in a project, and how it is executed."""

    sync: Sync
    asset_key: AssetKey
    source_key: AssetKey
    options: SyncOptions = SyncOptions()
    parent_key: AssetKey | None = None
    """The asset of the parents of a sync with `for_each`."""

    @classmethod
    def of(cls, sync: Sync, key_prefix: Sequence[str] = (), options: SyncOptions | None = None) -> Placement:
        """The placement under a prefix; without one it is that of a project of syncs alone.

        >>> sync = Sync(name="issues", url="https://api.example.com", integration="github")
        >>> Placement.of(sync, ["raw"]).asset_key.to_user_string(), Placement.of(sync).job_name
        ('raw/github/issues', 'github__issues_job')
        """
        key, each = names.asset_key(sync, key_prefix), sync.for_each
        parent_key = names.sibling(key, each.sync) if each else None
        return cls(sync, key, names.source_key(sync, key_prefix), options or SyncOptions(), parent_key)

    @property
    def model_keys(self) -> Mapping[str, AssetKey]:
        """The assets of a script's further models by their names; the asset of its first model is that of the sync.

        >>> row = {"type": "object", "properties": {"id": {}}}
        >>> sync = Sync(name="people", script="people:people", models={"Contact": row, "Company": row})
        >>> [key.to_user_string() for key in Placement.of(sync).model_keys.values()]
        ['people/Company']
        """
        further = [name for name in self.sync.models if name != self.sync.model] if self.sync.script else []
        return {name: AssetKey([*self.asset_key.path, name]) for name in further}

    @property
    def op_name(self) -> str:
        """The name of the op of the asset."""
        return f"{self.options.job_prefix}{names.python_name(self.sync)}"

    @property
    def job_name(self) -> str:
        """The name of the job."""
        return names.job_name(self.sync, self.options.job_prefix)

    @property
    def schedule_name(self) -> str:
        """The name of the schedule."""
        return names.schedule_name(self.sync, self.options.job_prefix)
