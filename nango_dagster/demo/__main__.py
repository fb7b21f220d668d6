"""Serve the demo's API, materialize its syncs through Dagster, and show what came of it."""

from __future__ import annotations

import argparse
import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.table import Table

from ..dagster_yaml import dagster_home
from ..settings import Settings
from .server import serve

if TYPE_CHECKING:
    from dagster import DagsterInstance, Definitions

SYNCS: Final = ("pokemon", "github-issues")
ROWS_SHOWN: Final = 5
COLUMNS_SHOWN: Final = 4

console = Console()


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m nango_dagster.demo`: 0 if every sync of the demo brought rows."""
    parser = argparse.ArgumentParser(prog="python -m nango_dagster.demo", description=__doc__)
    parser.add_argument("--ui", action="store_true", help="then open the Dagster UI on it, until Ctrl-C")
    ui = parser.parse_args(arguments).ui
    settings = Settings.from_env()
    os.environ["DAGSTER_HOME"] = str(dagster_home(settings))
    with serve() as url:
        os.environ["NANGO_ENV_DEMO_API_URL"] = url
        good = sync_and_show(settings)
        if ui:
            return _run(["dev"])
    console.print(
        "Again, and nothing is written, because nothing changed: [bold]make run[/]\n"
        "The same in the Dagster UI: [bold]make ui[/], or for syncs of your own [bold]nango-dagster dev[/]"
    )
    return 0 if good else 1


def sync_and_show(settings: Settings) -> bool:
    """Materialize the syncs, print tables, counts and jobs; whether all of them went well."""
    from dagster import DagsterInstance

    from ..definitions import defs

    with DagsterInstance.get() as instance:
        began = monotonic()
        with console.status("Dagster is materializing " + " and ".join(SYNCS) + " ..."):
            good = materialize(defs, instance)
        console.print(f"Materialized in {monotonic() - began:.1f} s, into {settings.redacted_db_url}\n")
        for name in SYNCS if good else ():
            _show_rows(name, defs.load_asset_value([name], instance=instance))
    _run(["status"])
    return good


def materialize(defs: Definitions, instance: DagsterInstance) -> bool:
    """One run in this process that materializes the demo's syncs; whether it succeeded."""
    from dagster import AssetKey

    wanted = [AssetKey([name]) for name in SYNCS]
    there = {spec.key for spec in defs.resolve_all_asset_specs()}
    if missing := [key.to_user_string() for key in wanted if key not in there]:
        console.print(
            f"No sync {' and no sync '.join(missing)}: run this in the checkout, whose sync_configs has them."
        )
        return False
    logging.getLogger("dagster").setLevel(logging.ERROR)
    result = defs.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance,
        asset_selection=wanted,
        run_config={"loggers": {"console": {"config": {"log_level": "ERROR"}}}},
        raise_on_error=False,
    )
    return result.success


def _show_rows(name: str, frame: Any) -> None:
    """The first rows of a mapped table, as the IO manager loads it for a downstream asset."""
    fields = [column for column in frame.columns if not str(column).startswith("_nango_")]
    shown = fields[:COLUMNS_SHOWN]
    more = f", {len(fields) - len(shown)} more columns" if len(fields) > len(shown) else ""
    table = Table(title=f"{name}: {len(frame)} rows{more}", title_justify="left", title_style="bold")
    for column in shown:
        table.add_column(str(column), overflow="ellipsis", no_wrap=True, max_width=22)
    first = frame[shown].head(ROWS_SHOWN)
    for row in first.map(str).where(first.notna(), "").itertuples(index=False):
        table.add_row(*row)
    console.print(table, "")


def _run(arguments: list[str]) -> int:
    """The command line of the package, as a user has it."""
    try:
        return subprocess.run([str(Path(sys.executable).with_name("nango-dagster")), *arguments]).returncode
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main())
