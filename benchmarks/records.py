"""The records of the benchmark's API: shaped like GitHub's issues, about 2.5 KB, each a pure function of its index.

There are three lists of them: the first; the same with 1 % of the records changed; and that with 1 % of them gone.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, Final, Literal
from zlib import crc32

List = Literal["first", "changed", "gone"]

CHANGED_COMMENTS: Final = 1000  # a record has fewer comments before it changes, and at least as many afterwards

_REPOSITORY: Final = "https://api.example.com/repos/acme/widgets"
_START: Final = datetime(2020, 1, 1, tzinfo=timezone.utc)
_PROSE: Final = (
    "sync page cursor retry batch token schema column index queue lease worker commit rollback upstream header "
    "when the a of and with after before fails returns null value timeout request response "
    "naïve café größe Übermaß 日本語 данные 🚀 “quoted” C:\\temp tab\there line\nbreak"
)
_WORDS: Final = _PROSE.split(" ")


@dataclass(frozen=True)
class Outcome:
    """The expected state of a database after a sync of a list: live rows, and the changed ones among them."""

    live: int
    changed: int

    def __str__(self) -> str:
        return f"{self.live:,} live rows, {self.changed:,} of them changed"


def indices(list_: List, count: int) -> Iterator[int]:
    """The records of a list that began with `count` of them."""
    return (index for index in range(count) if list_ != "gone" or not _one_percent("gone", index))


def is_changed(list_: List, index: int) -> bool:
    """Whether a list has the changed form of a record."""
    return list_ != "first" and _one_percent("changed", index)


def outcome(list_: List, count: int) -> Outcome:
    """The expected state after the sync of a list that began with `count` records."""
    live = list(indices(list_, count))
    return Outcome(len(live), sum(is_changed(list_, index) for index in live))


def _one_percent(what: str, index: int) -> bool:
    """About one record in a hundred, spread as evenly over pages as chance would."""
    return crc32(f"{what} {index}".encode()) % 100 == 0


def issue(index: int, *, changed: bool = False) -> dict[str, Any]:
    """A record: nested objects, a list, nulls, dates, booleans, floats, ids beyond 32 bits, text of all kinds.

    >>> issue(7) == issue(7), issue(7)["comments"] < CHANGED_COMMENTS <= issue(7, changed=True)["comments"]
    (True, True)
    """
    chance = random.Random(index)
    number = index + 1
    created = _START + timedelta(minutes=index, seconds=chance.randrange(60))
    updated = created + timedelta(seconds=chance.randrange(9_000_000))
    is_closed = chance.random() < 0.5
    record: dict[str, Any] = {
        "id": 2_400_000_000 + index * 41,
        "node_id": f"I_kwDOB{index:012d}",
        "number": number,
        "url": f"{_REPOSITORY}/issues/{number}",
        "repository_url": _REPOSITORY,
        "labels_url": f"{_REPOSITORY}/issues/{number}/labels",
        "comments_url": f"{_REPOSITORY}/issues/{number}/comments",
        "events_url": f"{_REPOSITORY}/issues/{number}/events",
        "html_url": f"https://example.com/acme/widgets/issues/{number}",
        "title": _text(chance, 8).capitalize(),
        "user": _user(chance),
        "labels": [_label(chance) for _ in range(chance.randrange(4))],
        "state": "closed" if is_closed else "open",
        "state_reason": "completed" if is_closed else None,
        "locked": chance.random() < 0.05,
        "assignee": _user(chance) if chance.random() < 0.5 else None,
        "milestone": _milestone(chance, updated) if chance.random() < 0.4 else None,
        "comments": chance.randrange(50),
        "created_at": _time(created),
        "updated_at": _time(updated),
        "closed_at": _time(updated) if is_closed else None,
        "author_association": chance.choice(("NONE", "MEMBER", "OWNER", "CONTRIBUTOR")),
        "active_lock_reason": None,
        "draft": chance.random() < 0.1,
        "body": _text(chance, 80 + chance.randrange(140)),
        "reactions": {name: chance.randrange(9) for name in ("total_count", "+1", "-1", "laugh", "heart", "eyes")},
        "estimate_hours": round(chance.random() * 80, 2) if chance.random() < 0.7 else None,
        "score": round(chance.random() * 100, 4),
        "sub_issues_summary": {"total": chance.randrange(6), "percent_completed": round(chance.random() * 100, 1)},
        "performed_via_app": None,
    }
    return {**record, **_change(record, updated)} if changed else record


def _change(record: dict[str, Any], updated: datetime) -> dict[str, Any]:
    return {
        "title": f"{record['title']} (edited)",
        "state": "open" if record["state"] == "closed" else "closed",
        "comments": record["comments"] + CHANGED_COMMENTS,
        "updated_at": _time(updated + timedelta(days=30)),
        "reactions": {**record["reactions"], "heart": record["reactions"]["heart"] + 1},
    }


def _user(chance: random.Random) -> dict[str, Any]:
    number = chance.randrange(5_000)
    return {
        "login": f"user-{number}",
        "id": 1_000_000 + number,
        "avatar_url": f"https://avatars.example.com/u/{1_000_000 + number}?v=4",
        "html_url": f"https://example.com/user-{number}",
        "type": "User" if number % 20 else "Bot",
        "site_admin": number % 100 == 0,
    }


def _label(chance: random.Random) -> dict[str, Any]:
    number = chance.randrange(60)
    return {
        "id": 7_000 + number,
        "name": f"label-{number}",
        "color": f"{number * 4_000:06x}",
        "default": number % 9 == 0,
        "description": f"All about label number {number}" if number % 4 else None,
    }


def _milestone(chance: random.Random, updated: datetime) -> dict[str, Any]:
    return {
        "id": chance.randrange(40),
        "title": f"v{chance.randrange(9)}.{chance.randrange(20)}",
        "due_on": _time(updated + timedelta(days=90)),
        "open_issues": chance.randrange(200),
    }


def _text(chance: random.Random, words: int) -> str:
    return " ".join(chance.choices(_WORDS, k=words))


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
