"""Configs without their secrets, for whoever asks; and the secrets put back when such a config returns."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

from ...config import Sync
from ...config.field_values import PLACEHOLDER
from ...config.source import Place, dotted
from ...errors import ConfigError, Problem
from ...http import Request, looks_secret, origin, public_config, public_url, secrets_of
from ...http.redaction import STARS

_PARTS = ("headers", "query_params", "body")


def starred(sync: Sync) -> dict[str, Any]:
    """The config as it may be shown: what its user wrote, with `***` for values that look secret by their names.

    >>> sync = Sync(url="https://api.example.com/items?key=k", headers={"Authorization": "Bearer t", "X-Team": "7"})
    >>> starred(sync)["url"], starred(sync)["headers"]
    ('https://api.example.com/items?key=***', {'Authorization': '***', 'X-Team': '7'})
    """
    return public_config({**sync.document(), "name": sync.name})


def unstarred(body: dict[str, Any], stored: Sync | None = None) -> dict[str, Any]:
    """The body with each `***` replaced by the stored secret that it was shown for.

    Raises ConfigError for a `***` that stands for nothing stored, or when the URL leads elsewhere now: who may not
    read a secret may not send it to another server either.
    """
    places = list(_starred_places(body))
    old = stored.document() if stored else {}
    if places and old and _leads_to(body) != _leads_to(old):
        sentence = "url or allowed_origins lead elsewhere now, so the secrets shown as *** have to be given again."
        raise ConfigError.of(Problem(sentence, field="url"))
    filled = deepcopy(body) if places else body
    problems = [_problem(place) for place in places if not _fill(filled, old, place)]
    if problems:
        raise ConfigError.of(*problems)
    return filled


def _starred_places(body: Mapping[str, Any]) -> Iterator[Place]:
    for around in ((), ("next_request",)):
        request = body if not around else body.get("next_request")
        if not isinstance(request, Mapping):
            continue
        url = request.get("url")
        if isinstance(url, str) and STARS in secrets_of(Request("GET", url)):
            yield (*around, "url")
        for part in _PARTS:
            yield from _stars_in(request.get(part), (*around, part), secret=False)


def _stars_in(value: Any, place: Place, *, secret: bool) -> Iterator[Place]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _stars_in(item, (*place, name), secret=secret or looks_secret(name))
    elif isinstance(value, list):
        for at, item in enumerate(value):
            yield from _stars_in(item, (*place, at), secret=secret)
    elif secret and value == STARS:
        yield place


def _fill(new: Any, old: Any, place: Place) -> bool:
    """Put the old value of a place into the new object; False where there is none."""
    *around, last = place
    for step in around:
        new, old = new[step], _child(old, step)
    kept = _child(old, last)
    if kept is None or isinstance(kept, Mapping | list) or (last == "url" and new["url"] != public_url(kept)):
        return False
    new[last] = kept
    return True


def _child(value: Any, step: str | int) -> Any:
    if isinstance(step, int):
        return value[step] if isinstance(value, list) and step < len(value) else None
    return value.get(step) if isinstance(value, Mapping) else None


def _leads_to(document: Mapping[str, Any]) -> tuple[Any, ...]:
    """Which servers get to see a sync's credentials: as it is written, and as who connects understands it."""
    following = document.get("next_request")
    further = _leads_to(following) if isinstance(following, Mapping) else ()
    url = str(document.get("url", ""))
    written = re.split(r"[/?#\\]", url.partition("//")[2], maxsplit=1)[0].rpartition("@")[2]
    try:
        destination = origin(PLACEHOLDER.sub("1", url))
    except ConfigError:
        destination = ""
    return destination, written.lower(), document.get("allowed_origins") or [], further


def _problem(place: Place) -> Problem:
    name = dotted(place)
    return Problem(f"{name} holds ***, which stands for a secret that is not shown; give the secret.", field=name)
