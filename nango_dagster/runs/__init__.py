"""Executions: claim, read a source, store its records and notify; alone, or many of a run side by side.

A schedule, a click in the Dagster UI and `nango-dagster run` start executions through `claimed` or `Drain`.
"""

from .claiming import claimed
from .draining import Done, Drain
from .execution import Execution
from .functions import load_function
from .values import BASE, Due, ModelOutcome, Outcome, Progress, Wishes

__all__ = [
    "BASE",
    "Done",
    "Drain",
    "Due",
    "Execution",
    "ModelOutcome",
    "Outcome",
    "Progress",
    "Wishes",
    "claimed",
    "load_function",
]
