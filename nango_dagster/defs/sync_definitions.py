"""The definitions of one sync: its asset, the asset of its source, its job and its schedule."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from dagster import AssetsDefinition, JobDefinition, ScheduleDefinition

from .assets import build_asset, build_job, build_source
from .placements import Placement, SyncOptions
from .schedules import build_schedule
from .translator import NangoSyncTranslator, SyncProps


@dataclass(frozen=True)
class SyncDefinitions:
    """The definitions of one sync."""

    placement: Placement
    asset: AssetsDefinition
    source: AssetsDefinition
    job: JobDefinition | Any
    schedule: ScheduleDefinition

    @classmethod
    def of(cls, props: SyncProps, translator: NangoSyncTranslator, options: SyncOptions) -> SyncDefinitions:
        """Make the definitions of a sync. Raises DagsterError for a name that Dagster does not take."""
        spec = translator.get_asset_spec(props)
        default = Placement.of(props.sync, props.key_prefix, options)
        placement = replace(default, asset_key=spec.key, parent_key=translator.parent_key(props))
        return cls(
            placement,
            build_asset(spec, placement),
            build_source(placement, spec.group_name),
            build_job(placement),
            build_schedule(placement),
        )

    @property
    def taken(self) -> list[str]:
        """The names in Dagster that no other sync may have."""
        keys = (self.placement.asset_key, self.placement.source_key, *self.placement.model_keys.values())
        return [self.placement.op_name, *(key.to_user_string() for key in keys)]
