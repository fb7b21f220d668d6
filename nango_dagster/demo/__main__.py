"""Serve the sample API, materialize its syncs through Dagster, and show their rows and jobs."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.table import Table

from .. import clock
from ..cli.instance import open_instance
from ..sample_api import serve
from ..settings import Settings

if TYPE_CHECKING:
    from dagster import DagsterInstance, Definitions

SYNCS: Final = ("pokemon", "github-issues")
ROWS_SHOWN: Final = 5
COLUMNS_SHOWN: Final = 4
COMMAND: Final = (sys.executable, "-m", "nango_dagster.cli")

console = Console()


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m nango_dagster.demo`: status 0 if every sync of the demo succeeded."""
    parser = argparse.ArgumentParser(prog="python -m nango_dagster.demo", description=__doc__)
    parser.add_argument("--ui", action="store_true", help="afterwards serve the Dagster UI until Ctrl-C")
    parser.add_argument("--port", type=int, default=3000, help="the port of the Dagster UI")
    options = parser.parse_args(arguments)
    with serve() as url:
        os.environ["NANGO_ENV_DEMO_API_URL"] = url
        good = sync_and_show(Settings.from_env())
    if options.ui:
        del os.environ["NANGO_ENV_DEMO_API_URL"]  # `dev` serves the sample API itself
        # Dagster gives SIGTERM the handler of SIGINT, which a shell's `&` has set to "ignore".
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        sys.stdout.flush()
        os.execv(COMMAND[0], [*COMMAND, "dev", "--port", str(options.port)])
    console.print(
        "Run it again, and nothing is written, because nothing changed: [bold]make run[/]\n"
        "See it in the Dagster UI: [bold]make ui[/]; for syncs of your own: [bold]nango-dagster dev[/]"
    )
    return 0 if good else 1


def sync_and_show(settings: Settings) -> bool:
    """Materialize the syncs and print tables, counts and jobs; True if all of them succeeded."""
    with open_instance(settings) as instance:
        from ..definitions import defs

        began = clock.monotonic()
        with console.status("Dagster is materializing " + " and ".join(SYNCS) + " ..."):
            good = materialize(defs, instance)
        console.print(f"Materialized in {clock.monotonic() - began:.1f} s, into {settings.redacted_db_url}\n")
        for name in SYNCS if good else ():
            _show_rows(name, defs.load_asset_value([name], instance=instance))
    subprocess.run([*COMMAND, "status"])
    return good


def materialize(defs: Definitions, instance: DagsterInstance) -> bool:
    """Materialize the demo's syncs with one run in this process; True if it succeeded."""
    from dagster import AssetKey

    asset_keys = [AssetKey([name]) for name in SYNCS]
    configured_keys = {spec.key for spec in defs.resolve_all_asset_specs()}
    if missing := [key.to_user_string() for key in asset_keys if key not in configured_keys]:
        console.print(f"There is no sync {' and no sync '.join(missing)}; run this in the checkout of the repository.")
        return False
    logging.getLogger("dagster").setLevel(logging.ERROR)
    result = defs.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance,
        asset_selection=asset_keys,
        run_config={"loggers": {"console": {"config": {"log_level": "ERROR"}}}},
        raise_on_error=False,
    )
    return result.success


def _show_rows(name: str, frame: Any) -> None:
    """Print the first rows of a mapped table, loaded by the IO manager as for a downstream asset."""
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


if __name__ == "__main__":
    sys.exit(main())
