"""The names of a sync in Dagster: letters, digits and `_`, and the names that Dagster refuses."""

from __future__ import annotations

import keyword
import re

from nango_dagster.config.sync import Sync
from nango_dagster.errors import Problem

DEFAULT_INTEGRATION = "default"

# Of Python, and of the functions that Dagster makes.
RESERVED = frozenset(keyword.kwlist) | {
    *("arg_dict", "bool", "conf", "config", "context", "dict", "float", "input", "input_arg_dict", "int", "meta"),
    *("output", "output_arg_dict", "str", "type"),
}


def key_of(sync: Sync) -> tuple[str, ...]:
    """The integration and the name, without the integration where there is none.

    >>> key_of(Sync(name="pokemon", url="https://pokeapi.co/api/v2/pokemon"))
    ('pokemon',)
    """
    return (sync.name,) if sync.integration_key == DEFAULT_INTEGRATION else (sync.integration_key, sync.name)


def python_name(sync: Sync) -> str:
    """The sync's name where Dagster allows letters, digits and `_` only.

    >>> python_name(Sync(name="github-issues", url="https://api.github.com/issues"))
    'github_issues'
    """
    return plain("__".join(key_of(sync)))


def plain(text: str) -> str:
    """Text with `_` for each character that is no letter and no digit."""
    return re.sub(r"[^A-Za-z0-9_]", "_", text)


def refused(sync: Sync) -> Problem | None:
    """The reason why Dagster can have no asset of that name, or None.

    >>> print(refused(Sync(name="input", url="https://api.example.com/items")))
    input is a word that Python and Dagster keep for themselves; wanted another name.
    """
    if python_name(sync) in RESERVED:
        sentence = f"{sync.name} is a word that Python and Dagster keep for themselves; wanted another name."
        return Problem(sentence, field="name", found=sync.name)
    if re.search(r"[^A-Za-z0-9_.-]", sync.integration_key):
        field = "integration" if sync.integration else "pizzly_provider_config_key"
        wanted = "letters, digits, _ . and -"
        sentence = f"{field} is {sync.integration_key}, which Dagster does not take in a name; wanted {wanted}."
        return Problem(sentence, field=field, found=sync.integration_key, wanted=wanted)
    return None
