"""A simulated API: records that are added, updated and deleted while they are read, on a clock of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, Literal

from tests.fake_api import Answer, FakeApi, Received, Reply

Stamp = Literal["now", "same", "missing", "future", "backward"]
FUTURE = datetime(2099, 1, 1, tzinfo=timezone.utc)
LATE = 40  # seconds until a change can be read
BACK = 30  # seconds that a stamp may be before the change


def text(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass
class Item:
    """A record at the source."""

    id: int
    version: int
    stamp: datetime | None
    visible_at: datetime
    sequence: int
    is_deleted: bool = False
    before: Item | None = None
    """The answer of the API until this change can be read."""


@dataclass
class ChangingSource:
    """A list behind an API; `now` is the time everywhere but at the API, whose clock is `skew` seconds off."""

    api: FakeApi
    skew: int = 0
    late: bool = True
    tombstones: bool = False
    order: Literal["none", "asc", "desc"] = "none"
    size: int = 2
    now: datetime = datetime(2026, 1, 1, tzinfo=timezone.utc)
    items: dict[int, Item] = field(default_factory=dict)
    sequence: int = 0
    expired_before: int = 0
    last_stamp: datetime | None = None
    requests: int = 0
    fails: set[int] = field(default_factory=set)
    meanwhile: dict[int, Callable[[], None]] = field(default_factory=dict)
    """By the number of a request since the last `begin`: what fails, and what happens before it is answered."""

    def __post_init__(self) -> None:
        self.api.route("/items", self.answer)

    # --- changes ------------------------------------------------------------------------------------------------------

    def put(self, id: int, stamp: Stamp = "now") -> None:
        """Add or update a record."""
        self._change(id, stamp, is_deleted=False)

    def delete(self, id: int) -> None:
        """Delete a record, if it is there."""
        if id in self.items and not self.items[id].is_deleted:
            self._change(id, "now", is_deleted=True)

    def _change(self, id: int, stamp: Stamp, *, is_deleted: bool) -> None:
        at = self.now + timedelta(seconds=self.skew)
        moments: dict[Stamp, datetime | None] = {
            "now": at, "same": self.last_stamp or at, "missing": None, "future": FUTURE,
            "backward": at - timedelta(seconds=BACK),
        }  # fmt: skip
        moment = moments[stamp]
        if stamp == "same" and self.last_stamp is not None and at - self.last_stamp > timedelta(seconds=BACK):
            moment = at
        if moment is not None and moment != FUTURE:
            self.last_stamp = moment
        self.sequence += 1
        visible = self.now + timedelta(seconds=LATE if self.late else 0)
        before = self.items.get(id)
        self.items[id] = Item(
            id, self.sequence, moment, visible, self.sequence, is_deleted, self._seen(before) if before else None
        )

    def pass_time(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    def live(self) -> dict[int, int]:
        """The versions of the records that are not deleted, by their ids."""
        return {item.id: item.version for item in self.items.values() if not item.is_deleted}

    # --- the API ------------------------------------------------------------------------------------------------------

    def begin(self, fails: set[int], meanwhile: dict[int, Callable[[], None]]) -> None:
        self.requests, self.fails, self.meanwhile = 0, fails, meanwhile

    def _seen(self, item: Item) -> Item | None:
        while item.visible_at > self.now:
            if item.before is None:
                return None
            item = item.before
        return item

    def _visible(self) -> Iterator[Item]:
        for item in self.items.values():
            seen = self._seen(item)
            if seen is not None and (self.tombstones or not seen.is_deleted):
                yield seen

    def answer(self, request: Received) -> Reply:
        self.requests += 1
        self.meanwhile.get(self.requests, lambda: None)()
        if self.requests in self.fails:
            return Answer(500)
        params = request.params
        since = params.get("since") or request.headers.get("X-Since")
        if "token" in params and int(params["token"]) < self.expired_before:
            return Answer(410)
        found = sorted(self._visible(), key=lambda item: item.id)
        if since is not None:
            least = datetime.fromisoformat(since.replace("Z", "+00:00"))
            found = [item for item in found if item.stamp is None or item.stamp >= least]
        if "until" in params:
            most = datetime.fromisoformat(params["until"].replace("Z", "+00:00"))
            found = [item for item in found if item.stamp is None or item.stamp < most or item.stamp == FUTURE]
        if "token" in params:
            found = [item for item in found if item.sequence > int(params["token"])]
        if self.order != "none":
            # A record without a stamp comes first; its place says nothing.
            oldest = datetime(1970, 1, 1, tzinfo=timezone.utc)
            found.sort(key=lambda item: (item.stamp or oldest, item.id), reverse=self.order == "desc")
        return self._page(found, params)

    def _page(self, found: list[Item], params: dict[str, str]) -> Reply:
        if "page" in params:
            start = (int(params["page"]) - 1) * self.size
            return {"results": [self._record(item) for item in found[start : start + self.size]]}
        after = params.get("after")
        if after is not None:
            # A cursor of the API stands behind a record, whatever happens to the records before it.
            found = [item for item in found if self._place(item) > tuple(map(float, after.split("_")))]
        rest, found = found[self.size :], found[: self.size]
        next_cursor = "_".join(map(str, self._place(found[-1]))) if rest else None
        token = params.get("upto") or str(max((item.sequence for item in self._visible()), default=0))
        return {"results": [self._record(item) for item in found], "next": next_cursor, "token": token}

    def _place(self, item: Item) -> tuple[float, ...]:
        if self.order == "none":
            return (float(item.id),)
        sign = 1 if self.order == "asc" else -1
        stamp = item.stamp.timestamp() if item.stamp else 0.0
        return (sign * stamp, sign * float(item.id))

    def _record(self, item: Item) -> dict[str, Any]:
        record: dict[str, Any] = {"id": item.id, "version": item.version}
        if item.stamp is not None:
            record["updated_at"] = text(item.stamp)
        if item.is_deleted:
            record["deleted"] = True
        return record
