"""`python -m nango_dagster.cli`: the same as `nango-dagster`, where no script is installed."""

from . import main

main(prog_name="nango-dagster")
