"""The names of columns, and the text form of the paths of their values."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection
from hashlib import blake2b
from itertools import count

from ..paths import Step

Steps = tuple[Step, ...]

MAX_NAME_BYTES = 63

# Columns that every table of PostgreSQL has.
RESERVED = frozenset({"cmax", "cmin", "ctid", "tableoid", "xmax", "xmin"})


def column_name(steps: Steps, taken: Collection[str], fold: Callable[[str], str]) -> str:
    """The column's name: the steps joined with `_`, and a hash where that alone is no free, valid name.

    >>> column_name(("parent", "nested"), {}, str), column_name(("a_b",), {"a_b": ("a", "b")}, str)
    ('parent_nested', 'a_b_c311a49b')
    """
    name = "_".join(map(str, steps))
    if _is_valid(name) and fold(name) not in taken:
        return name
    clean = name.encode("utf-8", "ignore").replace(b"\x00", b"")[: MAX_NAME_BYTES - 9].decode("utf-8", "ignore")
    hashes = (blake2b(f"{path_text(steps)}{'#' * again}".encode(), digest_size=4).hexdigest() for again in count())
    return next(name for hash_ in hashes if fold(name := f"{clean}_{hash_}") not in taken)


def _is_valid(name: str) -> bool:
    if not name or name in RESERVED or name.lower().startswith("_nango_") or "\x00" in name:
        return False
    try:
        return len(name.encode()) <= MAX_NAME_BYTES
    except UnicodeEncodeError:
        return False


# --- paths ----------------------------------------------------------------------------------------------------------

# Texts that a path contains as they are; others are quoted, so that any database keeps them.
_PLAIN = re.compile(r'[^.\[\]"\\\x00-\x1f\ud800-\udfff]+')


def path_text(steps: Steps) -> str:
    """The place of a column's values in the record.

    >>> path_text(("list", 0, "id")), path_text(("a.b", "c"))
    ('list[0].id', '["a.b"].c')
    """
    text = ""
    for step in steps:
        if isinstance(step, int):
            text += f"[{step}]"
        elif _PLAIN.fullmatch(step):
            text += f".{step}" if text else step
        else:
            text += f"[{json.dumps(step)}]"
    return text


def path_steps(text: str) -> Steps:
    """The inverse of `path_text`.

    >>> path_steps('["a.b"].c[0]')
    ('a.b', 'c', 0)
    """
    steps: list[str | int] = []
    for quoted, index, plain in re.findall(r'\[("(?:[^"\\]|\\.)*")\]|\[(\d+)\]|\.?([^.\[\]"]+)', text):
        steps.append(json.loads(quoted) if quoted else int(index) if index else plain)
    return tuple(steps)
