"""The bytes of an answer become JSON text in UTF-8: JSON, JSON lines, CSV, gzip files, any declared charset."""

from .formats import Format
from .json_text import BodyLimits, json_text
from .members import MAX_MEMBERS, MAX_VALUES, check_members, check_records, check_values

__all__ = [
    "MAX_MEMBERS",
    "MAX_VALUES",
    "BodyLimits",
    "Format",
    "check_members",
    "check_records",
    "check_values",
    "json_text",
]
