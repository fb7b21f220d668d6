"""Asking Dagster to load its definitions again, so that a posted sync gets its own asset and schedule."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from time import time
from typing import Any

import msgspec

from ..errors import ApiError, Cancelled
from ..http import Client, Policy, Request
from ..posted import locked

log = logging.getLogger(__name__)

JOB = "nango_dispatch"
"""Whichever code location has this job is made of our definitions."""

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
    """Has Dagster load our code locations again, at most once in `pause` seconds, whichever process asks."""

    def __init__(self, dagster_url: str, lock_file: Path, pause: float, cancelled: Callable[[], bool]) -> None:
        self._url = dagster_url
        self._lock_file = lock_file
        self._pause = pause
        self._cancelled = cancelled
        self._said = ""

    def __call__(self) -> bool:
        """Whether it was done; trouble is told in the log, once."""
        try:
            with self._alone() as is_our_turn:
                return is_our_turn and self._reload()
        except OSError as error:
            self._say(f"posted syncs get no asset of their own: {self._lock_file} cannot be written: {error.strerror}.")
        except ApiError as error:
            self._say(f"posted syncs have no asset of their own yet, which is tried again: {error}")
        except Cancelled:
            pass
        return False

    @contextlib.contextmanager
    def _alone(self) -> Iterator[bool]:
        """Whether no other process has just done it; while this is open, none does."""
        self._lock_file.parent.mkdir(parents=True, exist_ok=True)
        with locked(self._lock_file):
            last = self._lock_file.read_text()
            is_our_turn = not 0 <= time() - float(last or 0) < self._pause
            if is_our_turn:
                self._lock_file.write_text(str(time()))
            yield is_our_turn

    def _reload(self) -> bool:
        with Client(Policy(name="Dagster", timeout=120, retries=0), cancelled=self._cancelled) as client:
            dagster = _Dagster(client, f"{self._url}/graphql")
            try:
                locations = dagster.locations()
                trouble = [said for location in locations if (said := dagster.reload(location))]
            except (LookupError, TypeError, AttributeError, msgspec.MsgspecError):
                raise ApiError(f"{self._url} did not answer as Dagster does.") from None
        if not locations:
            trouble = [f"posted syncs get no asset of their own: no code location of {self._url} has the job {JOB}."]
        for sentence in trouble:
            self._say(sentence)
        log.info("Dagster was asked to load again: %s.", ", ".join(locations) or "nothing")
        return True

    def _say(self, sentence: str) -> None:
        """Warn, but not every minute of the same."""
        log.log(logging.DEBUG if sentence == self._said else logging.WARNING, "%s", sentence)
        self._said = sentence


class _Dagster:
    """The two questions that we have for Dagster's webserver."""

    def __init__(self, client: Client, url: str) -> None:
        self._client = client
        self._url = url

    def locations(self) -> list[str]:
        """The code locations that hold our definitions."""
        workspace = self._ask(_LOCATIONS)["workspaceOrError"]
        if workspace["__typename"] != "Workspace":
            raise ApiError(f"Dagster: {_first_line(workspace)}")
        return [entry["name"] for entry in workspace["locationEntries"] if JOB in _jobs(entry)]

    def reload(self, location: str) -> str | None:
        """Reload a code location in Dagster; return a sentence about its error, None where it was loaded."""
        result = self._ask(_RELOAD, location=location)["reloadRepositoryLocation"]
        loaded = result.get("locationOrLoadError") or result
        if loaded["__typename"] == "RepositoryLocation":
            return None
        return f"Dagster could not load {location} again: {_first_line(loaded)}"

    def _ask(self, query: str, **variables: str) -> dict[str, Any]:
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
