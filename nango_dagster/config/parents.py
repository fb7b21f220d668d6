"""The parents of syncs with `for_each`, checked over all syncs of a folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nango_dagster.config.source import quoted
from nango_dagster.config.sync import Sync
from nango_dagster.errors import Problem
from nango_dagster.sentences import suggestion

_PLACE = "for_each.sync"


def wrong_parent(sync: Sync, others: Sequence[Sync]) -> Problem | None:
    """The problem of the parent that a sync names, if there is one; `others` are all syncs, itself included.

    >>> issues = Sync(name="issues", url="https://api.example.com/issues", unique_key="id")
    >>> given = {"url": "https://api.example.com/${parent.id}", "unique_key": "id"}
    >>> comments = Sync(name="comments", for_each={"sync": "issue", "path": "id"}, **given)
    >>> print(wrong_parent(comments, [issues, comments]))
    for_each.sync is "issue", and the integration default has no valid sync of this name; did you mean issues?
    """
    if sync.for_each is None:
        return None
    siblings = {other.name: other for other in others if other.integration_key == sync.integration_key}
    parent = siblings.get(sync.for_each.sync)
    if parent is None:
        hint = suggestion(sync.for_each.sync, [name for name in siblings if name != sync.name])
        return _problem(sync, f"and the integration {sync.integration_key} has no valid sync of this name; {hint}")
    if circle := _circle(sync, siblings):
        return _problem(
            sync, f"which leads back to {sync.name}: {' -> '.join(circle)}; wanted a sync without a circle."
        )
    if parent.unique_key is None:
        return _problem(sync, "which has no unique_key, so its records cannot be told apart later; add one to it.")
    if (parent.partitioned, parent.connection_key) != (sync.partitioned, sync.connection_key):
        return _problem(sync, "which reads another connection; wanted a sync of the same connection.")
    return None


def _circle(sync: Sync, siblings: Mapping[str, Sync]) -> list[str] | None:
    """The names from a sync over its parents back to itself."""
    names = [sync.name]
    step: Sync | None = sync
    while step is not None and step.for_each is not None and len(names) <= len(siblings):
        names.append(step.for_each.sync)
        if names[-1] == sync.name:
            return names
        step = siblings.get(step.for_each.sync)
    return None


def _problem(sync: Sync, clause: str) -> Problem:
    assert sync.for_each is not None
    sentence = f"{_PLACE} is {quoted(sync.for_each.sync)}, {clause}"
    return Problem(sentence, field=_PLACE, found=sync.for_each.sync, wanted="another sync of the integration")
