"""The calls about records."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from .answers import Pruned, RecordPage
from .connected import Connected, given, query_params
from .reading import Records


@dataclass(frozen=True)
class RecordCalls(Connected):
    """Read and prune records."""

    def list_records(
        self,
        provider_config_key: str,
        connection_id: str,
        model: str,
        *,
        variant: str | None = None,
        modified_after: datetime | str | None = None,
        filter: str | None = None,
        cursor: str | None = None,
        limit: int | None = None,
        ids: Collection[str | int] | None = None,
    ) -> RecordPage:
        """One page of the records of a connection and model, in the order of their changes.

        `filter` is `added`, `updated`, `deleted` or several with commas. `modified_after` is UTC if it has no zone.
        `ids` selects the records with these ids; an empty collection selects none.

        >>> page = nango.list_records("github", "acme", "GithubIssue", limit=2)
        >>> [record["id"] for record in page["records"]]
        [1, 2]
        >>> page = nango.list_records("github", "acme", "GithubIssue", cursor=page["next_cursor"])
        >>> [record["id"] for record in page["records"]], page["next_cursor"]
        ([3], None)
        """
        if ids is not None and not ids:
            return {"records": [], "next_cursor": None}  # without the parameter the API would return all
        fields = {
            "model": model,
            "variant": variant,
            "modified_after": modified_after.isoformat() if isinstance(modified_after, datetime) else modified_after,
            "filter": filter,
            "cursor": cursor,
            "limit": limit,
        }
        params = (*query_params(fields), *(("ids", str(id)) for id in ids or ()))
        page: RecordPage = self._send("GET", "/records", params=params, of=(provider_config_key, connection_id))
        return page

    def records(
        self,
        provider_config_key: str,
        connection_id: str,
        model: str,
        *,
        variant: str | None = None,
        modified_after: datetime | str | None = None,
        filter: str | None = None,
        cursor: str | None = None,
        limit: int | None = None,
        ids: Collection[str | int] | None = None,
    ) -> Records:
        """An iterator over the records of all pages after `cursor`; its `cursor` is that of the last record.

        >>> records = nango.records("github", "acme", "GithubIssue")
        >>> [record["title"] for record in records]
        ['Fix login', 'Add search', 'Update docs']
        >>> list(nango.records("github", "acme", "GithubIssue", cursor=records.cursor))
        []
        """

        def read(cursor: str | None) -> RecordPage:
            return self.list_records(
                provider_config_key,
                connection_id,
                model,
                variant=variant,
                modified_after=modified_after,
                filter=filter,
                cursor=cursor,
                limit=limit,
                ids=ids,
            )

        return Records(read, cursor)

    def prune_records(
        self,
        provider_config_key: str,
        connection_id: str,
        model: str,
        until_cursor: str,
        *,
        variant: str | None = None,
        limit: int | None = None,
    ) -> Pruned:
        """Remove the payloads of the records up to and including that of a cursor; their ids and times stay.

        >>> first = nango.list_records("github", "acme", "GithubIssue", limit=1)["next_cursor"]
        >>> nango.prune_records("github", "acme", "GithubIssue", until_cursor=first)
        {'count': 1, 'has_more': False}
        """
        fields = {"model": model, "until_cursor": until_cursor, "variant": variant, "limit": limit}
        pruned: Pruned = self._send(
            "PATCH", "/records/prune", body=given(fields), of=(provider_config_key, connection_id)
        )
        return pruned
