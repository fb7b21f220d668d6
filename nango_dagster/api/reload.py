"""Reload the code locations in Dagster, so that a new sync gets its own asset and schedule."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from .. import clock
from ..errors import ApiError, Cancelled
from ..http import Client, Policy, Request
from ..posted import locked

log = logging.getLogger(__name__)

JOB = "nango_dispatch"
"""The job by which a code location with our definitions is recognised."""

_LOCATIONS = """
query {
  workspaceOrError {
    __typename
    ... on Workspace {
      locationEntries {
        name
        locationOrLoadError { ... on RepositoryLocation { repositories { jobs { name } } } }
      }
    }
    ... on PythonError { message }
  }
}
"""
_RELOAD = """
mutation ($location: String!) {
  reloadRepositoryLocation(repositoryLocationName: $location) {
    __typename
    ... on WorkspaceLocationEntry { locationOrLoadError { __typename ... on PythonError { message } } }
    ... on ReloadNotSupported { message }
    ... on RepositoryLocationNotFound { message }
    ... on UnauthorizedError { message }
    ... on PythonError { message }
  }
}
"""


class Reloader:
    """Reloads our code locations in Dagster, at most once in `pause` seconds for all processes together."""

    def __init__(self, dagster_url: str, lock_file: Path, pause: float, cancelled: Callable[[], bool]) -> None:
        self._url = dagster_url
        self._lock_file = lock_file
        self._pause = pause
        self._cancelled = cancelled
        self._last_warning = ""

    def __call__(self) -> bool:
        """Reload, and return whether it was done; a new error is logged once."""
        try:
            with self._locked() as is_due:
                return is_due and self._reload()
        except OSError as error:
            self._warn(f"new syncs get no asset of their own: {self._lock_file} cannot be written: {error.strerror}.")
        except ApiError as error:
            self._warn(f"new syncs have no asset of their own yet; the next try follows: {error}")
        except Cancelled:
            pass
        return False

    @contextlib.contextmanager
    def _locked(self) -> Iterator[bool]:
        """Lock out other processes; yield whether none of them has reloaded within the pause."""
        self._lock_file.parent.mkdir(parents=True, exist_ok=True)
        with locked(self._lock_file):
            last = self._lock_file.read_text()
            now = clock.now().timestamp()
            is_due = not 0 <= now - float(last or 0) < self._pause
            if is_due:
                self._lock_file.write_text(str(now))
            yield is_due

    def _reload(self) -> bool:
        with Client(Policy(name="Dagster", timeout=120, retries=0), cancelled=self._cancelled) as client:
            dagster = _Dagster(client, f"{self._url}/graphql")
            try:
                locations = dagster.locations()
                problems = [problem for location in locations if (problem := dagster.reload(location))]
            except (LookupError, TypeError, AttributeError, msgspec.MsgspecError):
                raise ApiError(f"{self._url} did not answer as Dagster does.") from None
        if not locations:
            problems = [f"new syncs get no asset of their own: no code location of {self._url} has the job {JOB}."]
        for sentence in problems:
            self._warn(sentence)
        log.info("Requested a reload in Dagster of: %s.", ", ".join(locations) or "nothing")
        return True

    def _warn(self, sentence: str) -> None:
        """Warn; repeat the last warning only at level DEBUG."""
        log.log(logging.DEBUG if sentence == self._last_warning else logging.WARNING, "%s", sentence)
        self._last_warning = sentence


class _Dagster:
    """The two requests to Dagster's webserver."""

    def __init__(self, client: Client, url: str) -> None:
        self._client = client
        self._url = url

    def locations(self) -> list[str]:
        """The names of the code locations that have our definitions."""
        workspace = self._query(_LOCATIONS)["workspaceOrError"]
        if workspace["__typename"] != "Workspace":
            raise ApiError(f"Dagster: {_first_line(workspace)}")
        return [entry["name"] for entry in workspace["locationEntries"] if JOB in _jobs(entry)]

    def reload(self, location: str) -> str | None:
        """Reload a code location in Dagster; return a sentence about its error, None where it was loaded."""
        result = self._query(_RELOAD, location=location)["reloadRepositoryLocation"]
        loaded = result.get("locationOrLoadError") or result
        if loaded["__typename"] == "RepositoryLocation":
            return None
        return f"Dagster could not load {location} again: {_first_line(loaded)}"

    def _query(self, query: str, **variables: str) -> dict[str, Any]:
        body = {"query": query, "variables": variables}
        response = self._client.send(Request("POST", self._url, body=body))
        return msgspec.json.decode(response.content, type=_Answer).data


class _Answer(msgspec.Struct):
    data: dict[str, Any]


def _jobs(entry: Mapping[str, Any]) -> set[str]:
    repositories = (entry["locationOrLoadError"] or {}).get("repositories") or []
    return {job["name"] for repository in repositories for job in repository["jobs"]}


def _first_line(error: Mapping[str, Any]) -> str:
    return next(iter(str(error.get("message", error["__typename"])).splitlines()), "no reason given")
