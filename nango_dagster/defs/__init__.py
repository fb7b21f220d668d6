"""Dagster's view of the syncs: assets, jobs, schedules, checks and the IO manager; the only home of Dagster."""

from .build import build_definitions
from .component import NangoSyncsComponent
from .io_manager import NangoIOManager
from .partitions import same_connection
from .resource import NangoResource

__all__ = ["NangoIOManager", "NangoResource", "NangoSyncsComponent", "build_definitions", "same_connection"]
