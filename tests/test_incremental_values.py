"""Cursors in every form that an API may write: a sync of changes has the records of its source, and requests few."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any

import pytest

from nango_dagster.config import from_body
from nango_dagster.runs import Outcome
from nango_dagster.settings import Settings
from nango_dagster.store import Database, syncs
from nango_dagster.store.sync_row import SyncRow
from tests.executions import execute, stored
from tests.fake_api import FakeApi, Received, Reply

pytestmark = pytest.mark.parametrize("settings_env", ["sqlite"], indirect=True)

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
PAGING: dict[str, Any] = {"paging_cursor_metadata_response_path": "next", "paging_cursor_request_path": "after"}


@dataclass
class Source:
    """A list with a filter; its API knows the place of each value, and of each parameter, in its own order."""

    api: FakeApi
    place_of: Callable[[str], Any]
    """The place of a parameter; raises where the API would refuse it."""
    records: dict[int, tuple[Any, Any]] = field(default_factory=dict)
    """The value and its place, by the id of the record; a place of None belongs to every list."""
    newest_first: bool = False
    size: int = 100

    def __post_init__(self) -> None:
        self.api.route("/items", self.answer)

    def put(self, id_: int, value: Any, place: Any) -> None:
        self.records[id_] = value, place

    def answer(self, request: Received) -> Reply:
        since = request.params.get("since")
        least = None if since is None else self.place_of(since)
        rows = [
            (place, {"id": id_, "at": value})
            for id_, (value, place) in self.records.items()
            if least is None or place is None or place >= least
        ]
        if self.newest_first:
            rows.sort(key=lambda row: row[0], reverse=True)
        begin = int(request.params.get("after", 0))
        end = begin + self.size
        return {"results": [record for _, record in rows[begin:end]], "next": end if end < len(rows) else None}


@dataclass
class Reader:
    """The sync of a source."""

    db: Database
    settings: Settings
    row: SyncRow

    @classmethod
    def of(cls, db: Database, settings: Settings, source: Source, **block: Any) -> Reader:
        request = {} if "order" in block else {"request_path": "since"}
        body: dict[str, Any] = {"name": "items", "url": f"{source.api.url}/items", "unique_key": "id", "retries": 0}
        body |= {"sync_type": "incremental", "incremental": {"field": "at", **request, **block}, **PAGING}
        return cls(db, settings, syncs.register(db, [from_body({**body, "response_path": "results"})])["items"])

    def run(self) -> Outcome:
        outcome = execute(self.db, self.settings, self.row)
        assert outcome.status == "succeeded", outcome.error
        return outcome

    def values(self) -> dict[int, Any]:
        return {record["id"]: record["at"] for record in stored(self.db, self.row).live}


def iso(form: str) -> tuple[Callable[[datetime], str], Callable[[str], datetime]]:
    """Writes and reads times with strftime codes, in UTC."""
    return lambda at: at.strftime(form), lambda text: datetime.strptime(text, form).replace(tzinfo=timezone.utc)


def as_number(per_second: int, as_type: Callable[[Any], Any]) -> tuple[Callable[[datetime], Any], Callable[[str], Any]]:
    """Writes and reads numbers since 1970."""

    def write(at: datetime) -> Any:
        return as_type((at - EPOCH) // timedelta(microseconds=1) * per_second // 10**6)

    return write, lambda text: EPOCH + timedelta(microseconds=int(Decimal(text) * 10**6 / per_second))


def read_iso(text: str) -> datetime:
    return datetime.fromisoformat(text.upper().replace(",", ".").replace("Z", "+00:00"))


def read_nanoseconds(text: str) -> datetime:
    return datetime.strptime(text[:26], "%Y-%m-%dT%H:%M:%S.%f").replace(tzinfo=timezone.utc)


def in_zone(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%d %H:%M:%S %z")


TIMES: dict[str, tuple[Callable[[datetime], Any], Callable[[str], Any], dict[str, Any]]] = {
    "seconds": (*iso("%Y-%m-%dT%H:%M:%SZ"), {}),
    "microseconds": (*iso("%Y-%m-%dT%H:%M:%S.%f+00:00"), {}),
    "offset without colon": (*iso("%Y-%m-%dT%H:%M:%S+0000"), {}),
    "space and zone": (*iso("%Y-%m-%d %H:%M:%S UTC"), {}),
    "a zone behind a space": (
        lambda at: (at + timedelta(hours=5, minutes=30)).strftime("%Y-%m-%d %H:%M:%S +0530"), in_zone, {}
    ),
    "no zone": (*iso("%Y-%m-%d %H:%M:%S"), {}),
    "lower case": (*iso("%Y-%m-%dt%H:%M:%Sz"), {}),
    "comma": (lambda at: at.strftime("%Y-%m-%dT%H:%M:%S,%f")[:-3] + "Z", read_iso, {}),
    "nanoseconds": (lambda at: at.strftime("%Y-%m-%dT%H:%M:%S.%f") + "789Z", read_nanoseconds, {}),
    "seven digits": (lambda at: at.strftime("%Y-%m-%dT%H:%M:%S.%f") + "7", read_nanoseconds, {}),
    "basic": (*iso("%Y%m%dT%H%M%SZ"), {}),
    "basic time": (*iso("%Y-%m-%dT%H%M%SZ"), {}),
    "slashes": (*iso("%Y/%m/%d %H:%M:%S"), {}),
    "date": (*iso("%Y-%m-%d"), {}),
    "week date": (*iso("%G-W%V-%u"), {}),
    "ordinal date": (*iso("%Y-%jT%H:%M:%SZ"), {}),
    "dotnet": (
        lambda at: f"/Date({(at - EPOCH) // timedelta(milliseconds=1)}+0000)/",
        lambda text: EPOCH + timedelta(milliseconds=int(text[6:-7])), {},
    ),
    "RFC 2822": (format_datetime, parsedate_to_datetime, {}),
    "RFC 2822 without a weekday": (
        lambda at: at.strftime("%d ") + format_datetime(at)[8:11] + at.strftime(" %Y %H:%M:%S +0000"),
        parsedate_to_datetime, {},
    ),
    "ctime": (*iso("%a %b %d %H:%M:%S +0000 %Y"), {}),
    "own codes": (*iso("%d.%m.%Y %H:%M:%S"), {"format": "%d.%m.%Y %H:%M:%S"}),
    "the day before the month": (*iso("%Y-%d-%m"), {"format": "%Y-%d-%m"}),
    "compact": (*iso("%Y%m%d%H%M%S"), {"format": "%Y%m%d%H%M%S"}),
    **{
        f"{name} {kind} {of}": (*as_number(per_second, as_type), block)
        for name, per_second in (("unix", 1), ("ms", 1000), ("us", 10**6), ("ns", 10**9))
        for kind, as_type in ((("number", int), ("text", str)) if per_second < 10**6 else (("number", int),))
        for of, block in (("without format", {}), *([("with format", {"format": "unix"})] if per_second == 1 else ()))
    },
    "decimals": (*as_number(10**6, lambda us: f"{us // 10**6}.{us % 10**6:06}"), {}),
    "a float": (*as_number(10**6, lambda us: us / 10**6), {}),
}  # fmt: skip
TIMES["decimals"] = (TIMES["decimals"][0], as_number(1, int)[1], {})
TIMES["a float"] = (TIMES["a float"][0], as_number(1, int)[1], {})


def at_source(write: Callable[[datetime], Any], read: Callable[[str], Any], moment: datetime) -> tuple[Any, Any]:
    """The value of a time, and its place for an API that stores what it writes."""
    value = write(moment)
    return value, read(str(value))


@pytest.mark.parametrize("name", TIMES)
def test_equal_growing_and_late_times_are_read_in_each_form(
    db: Database, settings: Settings, api: FakeApi, name: str
) -> None:
    write, read, block = TIMES[name]
    source = Source(api, read)
    reader = Reader.of(db, settings, source, **block)
    now = datetime.now(timezone.utc).replace(microsecond=123_000)

    def put(id_: int, seconds: float) -> None:
        source.put(id_, *at_source(write, read, now - timedelta(hours=1) + timedelta(seconds=seconds)))

    for number in range(20):
        put(100 + number, -86400 * (9 + number))
    for id_, seconds in ((1, 0), (2, 10), (3, 10)):
        put(id_, seconds)
    reader.run()
    put(4, 10)  # equal to the cursor
    put(5, 20)
    assert reader.run().counts.fetched <= 5
    put(6, -30)  # late, within the lag
    put(1, 25)
    reader.run()
    assert reader.values() == {id_: value for id_, (value, _) in source.records.items()}


ULID = "01HQZX3J{:018}"
IDS: dict[str, tuple[Callable[[int], Any], dict[str, Any]]] = {
    "counter": (lambda n: n, {}),
    "counter as text": (str, {}),
    "decimals as text": (lambda n: f"{n}.{n % 4:0{n % 3 + 1}}", {}),
    "padded": (lambda n: f"{n:08}", {}),
    "hex": (lambda n: f"{n * 37:x}", {}),
    "hex with prefix": (lambda n: f"0x{n:016X}", {}),
    "versions": (lambda n: f"v1.{n}.{n % 3}", {}),
    "versions of two parts": (lambda n: f"1.{n}", {}),
    "ULID": (ULID.format, {}),
    "ObjectId": (lambda n: f"65f0c0{n:018x}", {}),
    "ObjectId of digits": (lambda n: f"650000{n * 7:018x}", {}),
    "Snowflake": (lambda n: 1_790_000_000_000_000_000 + (n << 22), {}),
    "Snowflake as text": (lambda n: str(999_999_999_999_999_999 + (n << 22)), {}),
    "ids around the seconds of today": (lambda n: 1_700_000_000 + n * 50_000_000, {"format": "number"}),
    "the same without format": (lambda n: 1_700_000_000 + n * 50_000_000, {}),
    "ids of 13 digits": (lambda n: 6_900_000_000_000 + n * 32_768, {}),
    "a date and time of 14 digits": (lambda n: 20260329023000 + n, {}),
    "integers of 30 digits": (lambda n: 10**30 + n, {}),
}
UNLIKE_TEXTS = ("decimals as text", "hex", "versions", "versions of two parts", "ObjectId of digits", "ULID")


@pytest.mark.parametrize(
    ("name", "order"),
    [(name, "none") for name in IDS] + [(name, order) for name in UNLIKE_TEXTS for order in ("asc", "desc")],
)
def test_equal_and_growing_ids_are_read_in_each_form(
    db: Database, settings: Settings, api: FakeApi, name: str, order: str
) -> None:
    write, block = IDS[name]
    places = {str(write(n)): n for n in range(40)}

    def place_of(text: str) -> int:
        """Its own values in their order, and other numbers between them."""
        return places[text] if text in places else sum(int(value) < int(text) for value in places)

    source = Source(api, place_of, newest_first=order == "desc", size=3)
    sending = {} if order == "none" else {"order": order}
    reader = Reader.of(
        db, settings, source, **block, **sending, **({"request_path": "since"} if order == "asc" else {})
    )
    for n in range(1, 13):
        source.put(n, write(n), n)
    assert "compared as texts" not in " ".join(reader.run().warnings)
    source.put(20, write(12), 12)  # equal to the cursor
    for n in range(13, 26):
        source.put(n, write(n), n)
    reader.run()
    source.put(1, write(26), 26)
    reader.run()
    assert reader.values() == {id_: value for id_, (value, _) in source.records.items()}


DAY = "2026-01-{:02}T00:00:00Z"
ODD: dict[str, tuple[Any, str]] = {
    "number among times": (1767225600, "another kind of value"),
    "text among times": ("soon", "another kind of value"),
    "no such day": ("2026-02-30T00:00:00Z", "another kind of value"),
    "no date of MySQL": ("0000-00-00 00:00:00", "had no value"),
    "null": (None, "had no value"),
    "list": (["2026-01-03"], "had no value"),
    "year 0 of .NET": ("0001-01-01T00:00:00+14:00", ""),
    "negative year": ("-0044-03-15T00:00:00Z", ""),
    "last year of .NET": ("9999-12-31T23:59:59.9999999-05:00", "after the start of the execution"),
    "year 10000": ("+10000-01-01T00:00:00Z", "after the start of the execution"),
    "midnight as 24:00": ("2026-01-04T24:00:00Z", ""),
    "leap second": ("2026-01-03T23:59:60Z", ""),
    "RFC 2822 among ISO": ("Sat, 03 Jan 2026 10:00:00 GMT", ""),
}


@pytest.mark.parametrize("name", ODD)
def test_a_value_of_another_kind_loses_no_record(db: Database, settings: Settings, api: FakeApi, name: str) -> None:
    odd, warning = ODD[name]
    source = Source(api, lambda text: parsedate_to_datetime(text) if "," in text else read_iso(text))
    reader = Reader.of(db, settings, source)
    source.put(1, DAY.format(1), read_iso(DAY.format(1)))
    source.put(2, odd, None)
    source.put(3, DAY.format(3), read_iso(DAY.format(3)))
    warnings = " ".join(reader.run().warnings)
    assert warning in warnings and bool(warning) == ("incremental.field" in warnings)
    for id_, day in ((4, 6), (1, 7)):
        source.put(id_, DAY.format(day), read_iso(DAY.format(day)))
        reader.run()
    assert reader.values() == {id_: value for id_, (value, _) in source.records.items()}


@pytest.mark.parametrize(
    ("values", "sent", "sentence"),
    [
        ([1767225600, 1767225601, 4102444800], "1767225541", "would be a time in the future"),
        ([1767225600123, 4102444800000], "1767225540123", "would be a time in the future"),
        (["1767225600.250000"], "1767225540.250000", ""),
        ([2_400_000_000, 2_500_000_000], "2500000000", ""),
        ([7, 12], "12", ""),
    ],
)
def test_numbers_that_may_be_times_get_the_lag_and_a_future_one_hides_nothing(
    db: Database, settings: Settings, api: FakeApi, values: list[Any], sent: str, sentence: str
) -> None:
    source = Source(api, Decimal)
    reader = Reader.of(db, settings, source, until={"request_path": "to"})
    for id_, value in enumerate(values):
        source.put(id_, value, Decimal(value))
    assert sentence in " ".join(reader.run().warnings)
    api.requests.clear()
    reader.run()
    params = api.requests[0].params
    assert params["since"] == sent
    is_time = sent.startswith("17")
    assert not is_time or (len(params["to"]), params["to"] > sent) == (len(sent), True), "both bounds have one form"


def test_newest_first_reads_the_whole_list_where_the_order_of_texts_is_not_known(
    db: Database, settings: Settings, api: FakeApi
) -> None:
    """The last page of the dates 03/01/2026 to 02/27/2026 is not before the 12/31/2025 of the last execution."""
    source = Source(api, str, newest_first=True, size=2)
    reader = Reader.of(db, settings, source, order="desc")

    def put(ids: Iterable[int], day: datetime) -> None:
        for id_ in ids:
            moment = day + timedelta(days=id_)
            source.put(id_, moment.strftime("%m/%d/%Y"), moment)

    put([1, 2], datetime(2025, 12, 29, tzinfo=timezone.utc))
    reader.run()
    put(range(3, 8), datetime(2026, 2, 20, tzinfo=timezone.utc))
    assert "are compared as texts and have no lag. Give incremental.format" in " ".join(reader.run().warnings)
    assert sorted(reader.values()) == list(range(1, 8))
