"""How many connections may fail before the run of a sync fails: `fail_run_when`."""

from __future__ import annotations

import re
from typing import Any

from nango_dagster.errors import ConfigError, Problem

DEFAULT = "10%"
_WANTED = 'any, never, a number of connections such as 5, or a share such as "10%"'


def failure_limit(value: Any) -> int | str:
    """Read the field `fail_run_when`. Raises ConfigError.

    >>> failure_limit("any"), failure_limit(5), failure_limit("5"), failure_limit(" 2.5 %"), failure_limit("never")
    ('any', 5, 5, '2.5%', 'never')
    """
    text = str(value).strip().lower() if isinstance(value, (int, str)) and not isinstance(value, bool) else ""
    if text in ("any", "never"):
        return text
    if re.fullmatch(r"0*[1-9][0-9]{0,8}", text):
        return int(text)
    share = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]{1,3})?)\s*%", text)
    if share and 0 < float(share[1]) <= 100:
        return f"{share[1]}%"
    raise ConfigError.of(Problem(f"fail_run_when is {value}; wanted {_WANTED}.", wanted=_WANTED))


def is_reached(limit: int | str, failed: int, executed: int) -> bool:
    """Whether a run fails in which `failed` of `executed` connections failed.

    >>> is_reached("10%", 20, 500), is_reached("10%", 50, 500), is_reached("any", 1, 500), is_reached(3, 2, 9)
    (False, True, True, False)
    >>> is_reached("never", 500, 500), is_reached("any", 0, 500)
    (False, False)
    """
    if not failed or limit == "never":
        return False
    if isinstance(limit, str) and limit.endswith("%"):
        return failed * 100 >= float(limit[:-1]) * executed
    return failed >= (1 if limit == "any" else int(limit))
