"""A sync: the documented fields, defaults and checks, from a file or a POST body.

>>> from nango_dagster.config import from_body
>>> sync = from_body({"url": "https://api.example.com/items", "frequency": "every 15 minutes"})
>>> sync.interval, sync.mode
(datetime.timedelta(seconds=900), 'overwrite')
"""

from nango_dagster.config.combinations import is_credential, placeholders
from nango_dagster.config.field_values import FORBIDDEN_HEADERS, PLACEHOLDER
from nango_dagster.config.fields import Column, CustomMapping, RateLimit, TrackDeletes
from nango_dagster.config.files import Configs, from_body, from_document, read_dir, read_file
from nango_dagster.config.for_each import ForEach
from nango_dagster.config.frequency import every, interval_of, seconds
from nango_dagster.config.incremental import Incremental, start_at
from nango_dagster.config.integrations import Integration, Integrations, integrations_schema, integrations_schema_text
from nango_dagster.config.reference import reference
from nango_dagster.config.responses import NextRequest, ResponseRule
from nango_dagster.config.schema import json_schema, schema_text, sync_schema
from nango_dagster.config.shapes import filled
from nango_dagster.config.sync import Sync, pascal_case, slug

__all__ = [
    "FORBIDDEN_HEADERS",
    "PLACEHOLDER",
    "Column",
    "Configs",
    "CustomMapping",
    "ForEach",
    "Incremental",
    "Integration",
    "Integrations",
    "NextRequest",
    "RateLimit",
    "ResponseRule",
    "Sync",
    "TrackDeletes",
    "every",
    "filled",
    "from_body",
    "from_document",
    "integrations_schema",
    "integrations_schema_text",
    "interval_of",
    "is_credential",
    "json_schema",
    "pascal_case",
    "placeholders",
    "read_dir",
    "read_file",
    "reference",
    "schema_text",
    "seconds",
    "slug",
    "start_at",
    "sync_schema",
]
