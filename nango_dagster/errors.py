"""What can go wrong, grouped by what to do next: fix the config, try later, or skip one record.

A message is a sentence for the person who can act on it: what happened, where, the value found and the value wanted.
Secrets never enter a message; :mod:`nango_dagster.http` stars them before an error is made.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


class NangoError(Exception):
    """Something in nango_dagster did not work."""

    status: int | None = None
    """The HTTP status, where an answer had one."""
    code: str | None = None
    """What a nango-dagster API calls the error, such as `unknown_connection`."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (self.__doc__ or "").strip())


@dataclass(frozen=True)
class Problem:
    """One thing wrong in a config: where it stands, what was found there, what is allowed."""

    sentence: str
    file: str | None = None
    line: int | None = None
    field: str | None = None
    found: object = None
    wanted: str | None = None
    code: str | None = None
    """What Nango's API calls it, such as `invalid_type`."""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.file and self.line else self.file
        return f"{where}: {self.sentence}" if where else self.sentence


class ConfigError(NangoError):
    """A sync config or a setting has to be changed before this can work.

    >>> print(ConfigError.of(Problem("frequency is 0; wanted at least 1 minute.", file="a.yaml", line=3)))
    a.yaml:3: frequency is 0; wanted at least 1 minute.
    """

    def __init__(self, message: str | None = None, problems: tuple[Problem, ...] = ()) -> None:
        super().__init__(message)
        self.problems = problems or (Problem(str(self)),)

    @classmethod
    def of(cls, *problems: Problem) -> ConfigError:
        """One error that says all problems, a line each."""
        return cls("\n".join(map(str, problems)), problems)


class Refused(NangoError):
    """What was asked for would destroy or mix up data, so it was not done."""


class TryLater(NangoError):
    """The outside world did not answer as it should; the next run may succeed."""


class ApiError(TryLater):
    """The external API answered with an error, or with something that is no list of records."""

    def __init__(self, message: str | None = None, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class AuthenticationFailed(ApiError):
    """The external API refused the connection's credentials."""


class QuotaSpent(TryLater):
    """The day's budget of requests is used up; nothing is asked of the API before `until`."""

    def __init__(self, message: str, until: datetime, connection_id: str | None = None) -> None:
        """`connection_id` says whose budget it was; None for that of the whole integration."""
        super().__init__(message)
        self.until = until
        self.connection_id = connection_id


class StoreUnavailable(TryLater):
    """The database cannot be reached, or not worked with in time."""


class StoreUnreachable(StoreUnavailable):
    """It cannot be reached. The sentence says where it is looked for, so it is for who runs it alone."""


class Incomplete(TryLater):
    """The list ended in a way that does not prove that all of it was seen."""


class PagingRepeats(Incomplete):
    """The API answered with a cursor or next URL that was already followed."""


class RecordRejected(NangoError):
    """One record cannot be stored; the others are."""


class LeaseLost(NangoError):
    """Another run took this execution over; nothing more may be written."""


class Cancelled(NangoError):
    """Somebody asked this execution to stop."""
