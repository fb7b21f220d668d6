"""Persons of Pipedrive as unified contacts.

nango-dagster connections add --integration pipedrive --connection acme --bearer
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from unified import Contact

from nango_dagster import sync


@sync(
    integration="pipedrive",
    model=Contact,
    mapped_table="unified_contact",
    base_url="https://api.pipedrive.com",
    frequency="every hour",
    track_deletes=True,
)
def pipedrive_persons(nango: Any) -> Iterator[list[Contact]]:
    """All persons of a Pipedrive account."""
    pages = nango.paginate(
        "/api/v2/persons",
        params={"limit": 100},
        response_path="data",
        paging_cursor_metadata_response_path="additional_data.next_cursor",
        paging_cursor_request_path="cursor",
    )
    for page in pages:
        yield [contact(record) for record in page]


def contact(record: dict[str, Any]) -> Contact:
    """A person of Pipedrive as a unified contact."""
    return Contact(
        id=str(record["id"]),
        name=record["name"],
        email=first(record.get("emails")),
        phone=first(record.get("phones")),
        updated_at=record["update_time"],
    )


def first(items: list[dict[str, Any]] | None) -> str | None:
    """The primary one of the emails or phones of a person, else the first one."""
    ordered = sorted(items or [], key=lambda item: not item.get("primary"))
    return ordered[0]["value"] if ordered else None
