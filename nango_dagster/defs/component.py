"""Syncs as a Dagster component: `type: nango_dagster.defs.NangoSyncsComponent` in a defs.yaml."""

from __future__ import annotations

from pathlib import Path

from dagster import Component, ComponentLoadContext, Definitions, Model, Resolvable

from .build import build_definitions


class NangoSyncsComponent(Component, Model, Resolvable):
    """Every sync config of a folder as an asset with a schedule."""

    configs: str = "sync_configs"
    """The folder with the configs, beside the defs.yaml or relative to it."""

    def build_defs(self, context: ComponentLoadContext) -> Definitions:
        """The definitions of the folder's syncs."""
        return build_definitions(Path(context.path) / self.configs)
