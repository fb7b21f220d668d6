"""Syncs as a Dagster component: `type: nango_dagster.defs.NangoSyncsComponent` in a defs.yaml."""

# No `from __future__ import annotations`: the fields' types are read when the class is made.
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from dagster import (
    AssetSpec,
    Component,
    ComponentLoadContext,
    Definitions,
    Model,
    Resolvable,
    scaffold_with,
)
from dagster.components.utils.translation import TranslationFn, TranslationFnResolver
from pydantic import Field

from ..config import Sync
from ..runs import Execution, Outcome
from .build import build_definitions
from .placements import Report, Status, SyncOptions, execute
from .scaffolding import NangoSyncsScaffolder
from .translator import NangoSyncTranslator, SyncProps


class SyncSelector(Model, Resolvable):
    """Syncs by name and integration; a sync is selected if it fits all fields that are given."""

    by_name: list[str] = Field([], description="The names of the syncs.")
    by_integration: list[str] = Field([], description="The integrations of the syncs.")

    def __call__(self, sync: Sync) -> bool:
        """Whether a sync is selected.

        >>> SyncSelector(by_name=["issues"])(Sync(name="issues", url="https://api.example.com"))
        True
        """
        fits_name = not self.by_name or sync.name in self.by_name
        return fits_name and (not self.by_integration or sync.integration_key in self.by_integration)


@scaffold_with(NangoSyncsScaffolder)
class NangoSyncsComponent(Component, Model, Resolvable):
    """Load every sync config of a folder as an asset with a job, a schedule and a check.

    A subclass may override `get_asset_spec` and `execute`.
    """

    configs: str = Field(
        "sync_configs", description="The folder with the sync configs: absolute, or relative to the defs.yaml."
    )
    scripts: str | None = Field(
        None,
        description="The Nango project whose TypeScript syncs are loaded: absolute, or relative to the defs.yaml. By "
        "default the first component of a project loads that of NANGO_SCRIPTS.",
    )
    select: SyncSelector | None = Field(None, description="The syncs that are loaded; all without it.")
    key_prefix: str | list[str] = Field([], description="The beginning of each asset's key.")
    translation: (
        Annotated[
            TranslationFn[SyncProps],
            TranslationFnResolver[SyncProps](
                template_vars_for_translation_fn=lambda props: {"props": props, "sync": props.sync}
            ),
        ]
        | None
    ) = Field(None, description="Changes of each asset's attributes; templates may use `sync`, `props` and `spec`.")
    default_status: Status = Field("running", description="The status of new schedules and sensors.")
    job_prefix: str = Field("", description="The beginning of the names of jobs, schedules and ops.")
    op_tags: Mapping[str, str] = Field({}, description="Tags of the ops.")
    pool: str | None = Field(None, description="The concurrency pool of the ops.")

    def get_asset_spec(self, props: SyncProps) -> AssetSpec:
        """The spec of a sync's asset, before `translation` is applied."""
        return NangoSyncTranslator().get_asset_spec(props)

    def execute(self, execution: Execution, report: Report) -> Outcome:
        """Execute a sync for one connection; called in several threads at once, also in runs of the dispatcher."""
        return execute(execution, report)

    def _loads_posted(self, context: ComponentLoadContext) -> bool:
        """Whether it loads the posted syncs: the first component of a project does."""
        components = context.component_tree.get_all_components(NangoSyncsComponent)
        return not components or components[0] is self or self not in components

    def build_defs(self, context: ComponentLoadContext) -> Definitions:
        """The definitions of the folder's syncs, with their IO manager and resource."""
        is_first = self._loads_posted(context)
        scripts = Path(context.path) / self.scripts if self.scripts is not None else None
        return build_definitions(
            Path(context.path) / self.configs,
            scripts=scripts or is_first,
            key_prefix=self.key_prefix,
            translator=_ComponentTranslator(self),
            select=self.select,
            options=SyncOptions(
                job_prefix=self.job_prefix,
                default_status=self.default_status,
                op_tags=self.op_tags,
                pool=self.pool,
                posted=is_first,
                execute=self.execute,
            ),
        )


class _ComponentTranslator(NangoSyncTranslator):
    """The translator that asks a component."""

    def __init__(self, component: NangoSyncsComponent) -> None:
        self._component = component

    def get_asset_spec(self, props: SyncProps) -> AssetSpec:
        spec = self._component.get_asset_spec(props)
        translation = self._component.translation
        return spec if translation is None else translation(spec, props)
