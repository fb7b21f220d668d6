"""A JSON record becomes a flat row, and a value a column type; pure, without a database.

The rules are those of the sync guide ("JSON-to-SQL schema mapping"): nested fields are joined with `_`, list items
get their index, null is left out, and a value that does not fit its column's type is NULL there and counted.

`layout` leads through it: a record's values meet their columns there. A value whose place has no column yet gets a
type (`types`) and a name (`names`), one that has is converted (`values`), and a row too wide is narrowed (`widths`).
`fast_rows` makes the same rows in less time, of records that have the shape of the records before them.
"""

from .fast_rows import FastRows, as_csv, fast_rows_of
from .layout import Flat, Layout, Rows
from .names import column_name, path_steps, path_text
from .places import MAX_DEPTH, Place
from .plan import DECLARED, MAX_COLUMNS, Column, Declared, Field, Plan
from .preview import columns_of, flatten
from .types import Type, infer
from .values import TO_POSTGRESQL, TO_SQLITE, Misfit
from .widths import MAX_ROW_BYTES

__all__ = [
    "DECLARED",
    "MAX_COLUMNS",
    "MAX_DEPTH",
    "MAX_ROW_BYTES",
    "TO_POSTGRESQL",
    "TO_SQLITE",
    "Column",
    "Declared",
    "FastRows",
    "Field",
    "Flat",
    "Layout",
    "Misfit",
    "Place",
    "Plan",
    "Rows",
    "Type",
    "as_csv",
    "column_name",
    "columns_of",
    "fast_rows_of",
    "flatten",
    "infer",
    "path_steps",
    "path_text",
]
