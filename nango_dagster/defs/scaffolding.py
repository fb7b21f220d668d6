"""`dg scaffold defs nango_dagster.defs.NangoSyncsComponent PATH --url URL`: a defs.yaml and a first sync config."""

# No `from __future__ import annotations`: Dagster reads the types of the parameters when the class is made.
from urllib.parse import urlsplit

import yaml
from dagster import Scaffolder, ScaffoldRequest
from dagster.components.component_scaffolding import scaffold_component
from pydantic import BaseModel, Field

from ..config.sync import slug

FOLDER = "sync_configs"
_FORM = """\
# A sync: this list of an external API becomes a table. All fields: docs/reference/config.md of nango-dagster.
{fields}# unique_key: id              # the field that identifies a record; without it each execution replaces the rows
# response_path: data         # the path of the records in an answer; by default a list at the root, or `results`
# paging_url_path: next       # the path of the next page's URL in an answer
"""


class ScaffoldParams(BaseModel):
    """The options of `dg scaffold defs`."""

    url: str | None = Field(None, description="The URL of a list; without it no sync config is written.")
    name: str | None = Field(None, description="The name of the sync; by default the last part of the URL.")
    frequency: str | None = Field(None, description='How often it runs, such as "every hour".')


class NangoSyncsScaffolder(Scaffolder[ScaffoldParams]):
    """Writes a defs.yaml, and the config of one sync."""

    @classmethod
    def get_scaffold_params(cls) -> type[ScaffoldParams]:
        """The options of the command."""
        return ScaffoldParams

    def scaffold(self, request: ScaffoldRequest[ScaffoldParams]) -> None:
        """Write the files; an existing config stays."""
        params = request.params
        scaffold_component(request, {"configs": FOLDER})
        folder = request.target_path / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        if params.url is None:
            return
        fields = {"url": params.url, "frequency": params.frequency}
        file = folder / f"{params.name or _name(params.url)}.yaml"
        if not file.exists():
            given = {name: value for name, value in fields.items() if value is not None}
            file.write_text(_FORM.format(fields=yaml.safe_dump(given, sort_keys=False)))


def _name(url: str) -> str:
    """The name of a sync from the last part of its URL's path.

    >>> _name("https://api.example.com/v1/Order Items/"), _name("https://api.example.com")
    ('order-items', 'api-example-com')
    """
    parts = urlsplit(url)
    last = parts.path.rstrip("/").rpartition("/")[2]
    return slug(last) or slug((parts.hostname or "").replace(".", "-")) or "items"
