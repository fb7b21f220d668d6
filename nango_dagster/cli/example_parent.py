"""An example parent for the dry run of a sync with `for_each`: a stored record, or the first one of its API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..config import Sync
from ..errors import ConfigError
from ..paths import MISSING, dig
from ..records import decode, encode, with_fields
from .command import Session

if TYPE_CHECKING:
    from ..fetch import Access
    from ..http import Reach


@dataclass(frozen=True)
class ExampleParent:
    """A parent whose list a dry run reads."""

    sync: str
    record: Mapping[str, Any] = field(repr=False)
    value: Any
    """The value that its children get."""
    field_name: str
    origin: str

    def __str__(self) -> str:
        return f"parent: {self.value} of {self.sync}, {self.origin}; in its children it is {self.field_name}"

    def children(self, records: Sequence[bytes]) -> list[bytes]:
        """Records of its list, with its value."""
        return [with_fields(record, {self.field_name: encode(self.value)}) for record in records]


def example_parent(
    session: Session, sync: Sync, connection_id: str | None, access: Access, reach: Reach
) -> tuple[ExampleParent | None, Access]:
    """A parent of the sync, and the access with its values; None and the access itself without `for_each`.

    Raises ConfigError where neither the store nor the API has a parent with a value at the path.
    """
    from ..sources import ParentAccess

    if sync.for_each is None:
        return None, access
    parent = session.sync(sync.for_each.sync)
    texts, origin = _stored(session, parent, connection_id), "a stored record"
    if not texts and parent.for_each is None:
        texts, origin = _fetched(parent, access, reach), "the first record of its API"
    for text in texts:
        record = decode(text)
        value = dig(record, sync.for_each.path) if isinstance(record, dict) else MISSING
        if value is not MISSING and value is not None:
            example = ExampleParent(parent.name, record, value, sync.for_each.field, origin)
            return example, ParentAccess(access, record)
    raise ConfigError(
        f"{sync.name}: no record of {parent.name} has a value at {sync.for_each.path}, so there is no list to show; "
        f"see nango-dagster dry-run {parent.name}"
    )


def _stored(session: Session, parent: Sync, connection_id: str | None) -> list[bytes]:
    """Some records that are stored of the parents' sync, the newest first."""
    from ..store import datasets, listing

    names = (parent.integration_key, connection_id or parent.connection_key, "base", parent.model)
    with session.database() as database:
        dataset = datasets.find(database, *names)
        if dataset is None:
            return []
        records = listing.latest(database, dataset.id, ("added", "updated"), 10)
    return [record.text.encode() for record in records if record.text is not None]


def _fetched(parent: Sync, access: Access, reach: Reach) -> list[bytes]:
    """The first page of the parents' list, with the access of the same connection."""
    from ..fetch import Fetch

    with Fetch(parent, access=access, max_pages=1, reach=reach) as fetch:
        return [record for page in fetch for record in page.records]
