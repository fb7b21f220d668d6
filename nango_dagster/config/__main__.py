"""Writes the reference and the JSON Schema of configs: `python -m nango_dagster.config docs/reference`."""

import sys
from pathlib import Path

from nango_dagster.config import reference, schema_text

folder = Path(sys.argv[1])
(folder / "config.md").write_text(reference(), encoding="utf-8")
(folder / "sync.schema.json").write_text(schema_text(), encoding="utf-8")
