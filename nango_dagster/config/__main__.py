"""Writes the reference and the JSON Schemas of configs: `python -m nango_dagster.config docs/reference`."""

import sys
from pathlib import Path

from nango_dagster.config import integrations_schema_text, reference, schema_text

folder = Path(sys.argv[1])
(folder / "config.md").write_text(reference(), encoding="utf-8")
(folder / "sync.schema.json").write_text(schema_text(), encoding="utf-8")
(folder / "integrations.schema.json").write_text(integrations_schema_text(), encoding="utf-8")
