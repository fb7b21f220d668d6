"""The classes of errors, grouped by what to do next: fix the config, try later, or skip one record.

A message is a sentence for the person who can act on it: what happened, where, the value found, the value wanted and
the next command. A message holds no secret: :mod:`nango_dagster.http` replaces secrets by stars before it raises.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any


class NangoError(Exception):
    """The base class of all errors of this package."""

    status: int | None = None
    """The HTTP status of the answer, or None."""
    code: str | None = None
    """The code of the error in the HTTP API, such as `unknown_connection`, or None."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (self.__doc__ or "").strip())


@dataclass(frozen=True)
class Problem:
    """One problem of a config: its place, the value found and the values allowed.

    Lines and columns are counted from 1.

    >>> print(Problem("method is 1; wanted one of GET, POST.", file="a.yaml", line=3, column=5))
    a.yaml:3:5: method is 1; wanted one of GET, POST.
    """

    sentence: str
    file: str | None = None
    line: int | None = None
    column: int | None = None
    field: str | None = None
    found: object = None
    wanted: str | None = None
    code: str | None = None
    """The code of the problem in Nango's API, such as `invalid_type`."""

    def __str__(self) -> str:
        place = [self.file, self.line, self.column] if self.line else [self.file]
        where = ":".join(str(part) for part in place if part is not None)
        return f"{where}: {self.sentence}" if where else self.sentence


class ConfigError(NangoError):
    """A sync config or a setting has to be changed.

    >>> print(ConfigError.of(Problem("frequency is 0; wanted at least 1 minute.", file="a.yaml", line=3)))
    a.yaml:3: frequency is 0; wanted at least 1 minute.
    """

    def __init__(self, message: str | None = None, problems: tuple[Problem, ...] = ()) -> None:
        super().__init__(message)
        self.problems = problems or (Problem(str(self)),)

    @classmethod
    def of(cls, *problems: Problem) -> ConfigError:
        """One error for several problems; its message has a line for each."""
        return cls("\n".join(map(str, problems)), problems)


class ModelMismatch(NangoError):
    """Records do not fit the model of their sync, which has `validate: fail`; the batch with them was not stored."""


class Refused(NangoError):
    """A request was refused because it would destroy or mix up data. Nothing was done."""


class TryLater(NangoError):
    """An external system did not respond as expected; the next run may succeed."""


class ApiError(TryLater):
    """The external API answered with an error, or its answer is not a list of records."""

    answer: Any = None
    """The answer with the error, as a sync script reads it; None where a script sent no such request."""

    def __init__(self, message: str | None = None, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class AuthenticationFailed(ApiError):
    """The external API refused the credentials of the connection."""


class QuotaSpent(TryLater):
    """The daily quota of requests is used up; no request is sent before `until`."""

    def __init__(self, message: str, until: datetime, connection_id: str | None = None) -> None:
        """`connection_id` is the connection that the quota belongs to; None for the quota of the integration."""
        super().__init__(message)
        self.until = until
        self.connection_id = connection_id


class StoreUnavailable(TryLater):
    """The database cannot be reached, or did not respond in time."""


class StoreUnreachable(StoreUnavailable):
    """The database cannot be reached. The message names its address, so it is for the operator only."""


class Incomplete(TryLater):
    """The list ended without proof that all records were read."""


class PagingRepeats(Incomplete):
    """The API returned a cursor or next URL that was already used."""


class RecordRejected(NangoError):
    """One record cannot be stored; the other records are stored."""


class LeaseLost(NangoError):
    """Another run has taken over this execution; this one must not write any more."""


class Interrupted(Incomplete):
    """The execution used its time up after it had saved a checkpoint; the next one goes on there at once."""


class ScriptError(NangoError):
    """A sync script raised an error, or did something that no script may do."""


class Cancelled(NangoError):
    """The execution was cancelled."""
