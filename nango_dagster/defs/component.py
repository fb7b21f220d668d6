"""Syncs as a Dagster component: `type: nango_dagster.defs.NangoSyncsComponent` in a defs.yaml."""

# No `from __future__ import annotations`: the fields' types are read when the class is made.
from pathlib import Path

from dagster import Component, ComponentLoadContext, Definitions, Model, Resolvable
from pydantic import Field

from .build import build_definitions


class NangoSyncsComponent(Component, Model, Resolvable):
    """Load every sync config of a folder as an asset with a job, a schedule and a check."""

    configs: str = Field(
        "sync_configs", description="The folder with the sync configs: absolute, or relative to the defs.yaml."
    )

    def build_defs(self, context: ComponentLoadContext) -> Definitions:
        """The definitions of the folder's syncs, with their IO manager and resource."""
        return build_definitions(Path(context.path) / self.configs)
