"""Contacts of HubSpot as unified contacts.

nango-dagster connections add --integration hubspot --connection acme --bearer
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from unified import Contact

from nango_dagster import sync


@sync(
    integration="hubspot",
    model=Contact,
    mapped_table="unified_contact",
    base_url="https://api.hubapi.com",
    frequency="every hour",
    track_deletes=True,
)
def hubspot_contacts(nango: Any) -> Iterator[list[Contact]]:
    """All contacts of a HubSpot account."""
    pages = nango.paginate(
        "/crm/v3/objects/contacts",
        params={"limit": 100, "properties": "firstname,lastname,email,phone"},
        response_path="results",
        paging_cursor_metadata_response_path="paging.next.after",
        paging_cursor_request_path="after",
    )
    for page in pages:
        yield [contact(record) for record in page]


def contact(record: dict[str, Any]) -> Contact:
    """A contact of HubSpot as a unified one."""
    properties = record["properties"]
    names = [properties.get("firstname"), properties.get("lastname")]
    return Contact(
        id=record["id"],
        name=" ".join(filter(None, names)),
        email=properties.get("email"),
        phone=properties.get("phone"),
        updated_at=record["updatedAt"],
    )
