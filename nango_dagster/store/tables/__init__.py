"""Mapped tables: one per sync, or one for several syncs; they get a column for each new field."""

from ..rows import Prepared
from ..system_columns import SYSTEM_COLUMNS, quote
from .columns import registered
from .model_diff import ModelDiff, model_diff
from .names import Transform, plan_of, table_name
from .opening import cache_layout, open_table
from .reading import data_frame, exists, rows
from .rebuilding import count_pruned, forget, forget_dataset, rebuild, rename_rows
from .retyping import TypeChange, change_types, type_changes
from .table import MappedTable

__all__ = [
    "SYSTEM_COLUMNS",
    "MappedTable",
    "ModelDiff",
    "Prepared",
    "Transform",
    "TypeChange",
    "cache_layout",
    "change_types",
    "count_pruned",
    "data_frame",
    "exists",
    "forget",
    "forget_dataset",
    "model_diff",
    "open_table",
    "plan_of",
    "quote",
    "rebuild",
    "registered",
    "rename_rows",
    "rows",
    "table_name",
    "type_changes",
]
