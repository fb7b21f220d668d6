"""Connections, credentials and metadata that were written as JSON, in options and files."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config.source import quoted
from ..errors import ConfigError, Problem
from ..sentences import suggestion

if TYPE_CHECKING:
    from ..store.connections import NewConnection

FIELDS = ("integration", "connection_id", "credentials", "metadata", "config")
MOST_PROBLEMS = 20


def read_file(path: str) -> str:
    """Return the text of a file, or of standard input for `-`. Raises ConfigError, which shows nothing of it."""
    try:
        data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
        return data.decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{file_name(path)} is not UTF-8 text; save it as UTF-8.") from None


def file_name(path: str) -> str:
    """The name of a file in errors."""
    return "standard input" if path == "-" else path


def parse_json(text: str, source: str) -> Any:
    """Parse a JSON document. Raises ConfigError, which names the source and shows nothing of the text."""
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        reason = f"{error.msg} at line {error.lineno}, column {error.colno}"
    except RecursionError:
        reason = "it is nested too deeply"
    except ValueError as error:
        reason = str(error)
    raise ConfigError(f"{source} is no JSON: {reason}.") from None


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def parse_object(text: str, source: str) -> dict[str, Any]:
    """Parse a JSON object that can be stored as metadata or config. Raises ConfigError, which shows nothing of it.

    >>> parse_object("[1]", "--metadata")
    Traceback (most recent call last):
    nango_dagster.errors.ConfigError: --metadata is a list; wanted a JSON object such as {"region": "eu"}.
    """
    from ..control.connections import checked_object

    return checked_object(parse_json(text, source), source)


def parse_credentials(text: str, source: str) -> dict[str, Any]:
    """Parse credentials. Raises ConfigError, which shows no value, when they cannot be used."""
    from ..auth import check_credentials

    return check_credentials(parse_json(text, source))


def parse_connection(document: Any) -> NewConnection:
    """The connection in a JSON object with its fields. Raises ConfigError.

    >>> parse_connection({"integration": "github", "connection_id": "acme", "metadata": {"region": "eu"}}).connection_id
    'acme'
    """
    from ..auth import check_credentials
    from ..control.connections import KINDS, checked_object
    from ..store.connections import NewConnection

    if not isinstance(document, Mapping):
        kind = KINDS.get(type(document), "a number")
        raise ConfigError(f"a connection is {kind}; wanted a JSON object with integration and connection_id.")
    for name in document:
        if name not in FIELDS:
            raise ConfigError(f"{quoted(str(name))} is no field of a connection; {suggestion(str(name), FIELDS)}")
    for name in ("integration", "connection_id"):
        value = document.get(name)
        if not isinstance(value, str) or not value.strip():
            kind = "missing" if value is None else KINDS.get(type(value), "a number")
            raise ConfigError(f"{name} is {kind}; wanted text.")
    credentials, metadata, config = (document.get(name) for name in FIELDS[2:])
    return NewConnection(
        document["integration"],
        document["connection_id"],
        None if credentials is None else check_credentials(credentials),
        None if metadata is None else checked_object(metadata, "metadata"),
        None if config is None else checked_object(config, "config"),
    )


def parse_connections(text: str, file: str) -> list[NewConnection]:
    """Parse a JSON list of connections, or JSON lines. Raises ConfigError with all problems and their places."""
    is_list = text.lstrip().startswith("[")
    connections: dict[tuple[str, str], tuple[int, NewConnection]] = {}
    problems: list[Problem] = []
    for number, item in _items(text, file, is_list=is_list):
        try:
            connection = parse_connection(
                parse_json(item, "the line") if isinstance(item, str) and not is_list else item
            )
            key = (connection.integration, connection.connection_id)
            if key in connections:
                first = f"{'item' if is_list else 'line'} {connections[key][0]}"
                raise ConfigError(f"{key[0]} {quoted(key[1])} is in {first} already.")
            connections[key] = number, connection
        except ConfigError as error:
            problems.append(_problem(str(error), file, number, is_list=is_list))
    if problems:
        raise ConfigError.of(*_shortened(problems, file))
    return [connection for _, connection in connections.values()]


def _items(text: str, file: str, *, is_list: bool) -> list[tuple[int, Any]]:
    """The items of a JSON list, or the lines that are not blank, with their numbers."""
    if is_list:
        return list(enumerate(parse_json(text, file), 1))
    return [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]


def _problem(sentence: str, file: str, number: int, *, is_list: bool) -> Problem:
    if is_list:
        return Problem(f"item {number}: {sentence}", file=file)
    return Problem(sentence, file=file, line=number)


def _shortened(problems: Sequence[Problem], file: str) -> list[Problem]:
    """The first problems, and the number of the others."""
    more = len(problems) - MOST_PROBLEMS
    return [*problems[:MOST_PROBLEMS], *([Problem(f"and {more:,} more.", file=file)] if more > 0 else [])]
