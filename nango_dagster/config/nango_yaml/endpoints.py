"""The endpoints of an integration's syncs and actions: unique, and one for each model."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_MODEL = re.compile(r"\{([A-Za-z0-9_]+)\}")


@dataclass(frozen=True)
class EndpointNames:
    """The endpoints of one sync or action."""

    count: int
    doubles: Sequence[tuple[str, str]] = ()
    """The endpoints that another one has already, and its name."""
    models: Sequence[str] = ()
    """The models that paths name as `{Model}`."""


@dataclass
class Endpoints:
    """The endpoints of one integration, with the name of the sync or action that each belongs to.

    >>> endpoints = Endpoints()
    >>> endpoints.add("/issues", "issues", default_method="GET").doubles
    []
    >>> endpoints.add({"method": "GET", "path": "/issues"}, "others", default_method="GET").doubles
    [('GET /issues', 'issues')]
    """

    owners: dict[str, str] = field(default_factory=dict)

    def add(self, value: Any, owner: str, *, default_method: str) -> EndpointNames:
        """Take the endpoints of one sync or action."""
        names = list(_names(value, default_method))
        doubles = [(name, self.owners[name]) for name in names if self.owners.get(name, owner) != owner]
        for name in names:
            self.owners.setdefault(name, owner)
        return EndpointNames(len(names), doubles, [model for name in names for model in _MODEL.findall(name)])


def _names(value: Any, default_method: str) -> Iterator[str]:
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, str) and item.strip():
            method, _, path = item.strip().rpartition(" ")
            yield f"{(method.strip() or default_method).upper()} {path}"
        elif isinstance(item, Mapping) and item.get("path"):
            yield f"{str(item.get('method') or default_method).upper()} {item['path']}"
        elif isinstance(item, Mapping):  # {GET: /path}
            yield from (f"{str(method).upper()} {path}" for method, path in item.items() if isinstance(path, str))
