"""Serves the sample API until Ctrl-C: `python -m nango_dagster.sample_api --port 8800`."""

from .server import main

main()
