"""Executions that read what changed: the cursor, what it is compared with, and the checkpoint that keeps it.

The rules that lose no record:

- The lower bound is inclusive. A record that is read twice and did not change writes nothing.
- A cursor moves only over records that are stored: with each page where the records come in ascending order, else when
  all pages were read. A rejected record or a page that was left out holds it back.
- It never passes the start of the execution, and each execution begins `lag` before it.
- With page numbers or offsets a list of several pages is read twice: a record that the source deletes meanwhile moves
  another one to a page that was read already.
- It belongs to one list. Another request, another value of metadata or another definition begins again.
"""

from .cursor import CursorRules
from .definition import block_of, definition_of
from .manual import manual_checkpoint
from .state import MAX_POSITION, State, belongs_to, moment_of, of_position, position_of
from .tracking import Tracking
from .values import Cursor, bound, capped, cursor_of, is_surely_before, of_moment, written, written_like, written_time

__all__ = [
    "MAX_POSITION",
    "Cursor",
    "CursorRules",
    "State",
    "Tracking",
    "belongs_to",
    "block_of",
    "bound",
    "capped",
    "cursor_of",
    "definition_of",
    "is_surely_before",
    "manual_checkpoint",
    "moment_of",
    "of_moment",
    "of_position",
    "position_of",
    "written",
    "written_like",
    "written_time",
]
