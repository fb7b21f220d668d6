"""Processes that a test starts with `multiprocessing`: forked from one that has imported what they need."""

from __future__ import annotations

import multiprocessing

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["nango_dagster.runs", "nango_dagster.store", "tests.executions"])
