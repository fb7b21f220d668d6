"""One execution: pages in, rows and changes out; and the claim that lets only one run do it at a time.

Whatever starts an execution (a schedule, a click in the Dagster UI, `nango-dagster run`, the API) comes through here.
"""

from .claiming import claimed
from .draining import Done, Drain
from .execution import Pull
from .functions import load_function
from .values import BASE, Due, Outcome, Progress, Source, Wishes

__all__ = [
    "BASE",
    "Done",
    "Drain",
    "Due",
    "Outcome",
    "Progress",
    "Pull",
    "Source",
    "Wishes",
    "claimed",
    "load_function",
]
