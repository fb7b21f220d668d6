"""Dagster's view of the syncs: assets, jobs, schedules, checks and the IO manager; the only home of Dagster."""

from importlib.metadata import version

from dagster_shared.libraries import DagsterLibraryRegistry

from .build import build_definitions
from .component import NangoSyncsComponent, SyncSelector
from .decorator import nango_syncs
from .io_manager import NangoIOManager
from .partitions import same_connection
from .placements import SyncOptions
from .resource import NangoResource
from .translator import NangoSyncTranslator, SyncProps

__all__ = [
    "NangoIOManager",
    "NangoResource",
    "NangoSyncTranslator",
    "NangoSyncsComponent",
    "SyncOptions",
    "SyncProps",
    "SyncSelector",
    "build_definitions",
    "nango_syncs",
    "same_connection",
]

DagsterLibraryRegistry.register("nango-dagster", version("nango-dagster"), is_dagster_package=False)
