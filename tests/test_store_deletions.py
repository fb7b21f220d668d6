"""No execution deletes more than it may, in one step or in several; a record that moved between pages is kept."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import pytest

from nango_dagster import clock
from nango_dagster.errors import Refused
from nango_dagster.store import Database, datasets
from tests.writing import Target

TRACKED: dict[str, Any] = {"unique_key": "id", "track_deletes": True}
PAGES: dict[str, Any] = {"paging_page_request_path": "page"}


def items(*ids: Any, **fields: Any) -> list[dict[str, Any]]:
    return [{"id": id, **fields} for id in ids]


@pytest.mark.parametrize("fields", [TRACKED, {}], ids=["track_deletes", "overwrite"])
def test_a_list_that_shrinks_step_by_step_is_refused_at_the_second_step(fields: dict[str, Any], db: Database) -> None:
    """100, 50, 25: each step alone is allowed, both within a day are not."""
    target = Target(db, **fields)
    target.write(items(*range(100)))
    target.write(items(*range(50)))
    with pytest.raises(Refused, match=r"--accept-deletes"):
        target.write(items(*range(25)))
    assert len(target.live()) == 50
    with clock.moved(timedelta(hours=26)):
        target.write(items(*range(25)))
    assert len(target.live()) == 25


@pytest.mark.parametrize("fields", [TRACKED, {}], ids=["track_deletes", "overwrite"])
def test_accepted_deletions_are_where_the_next_ones_are_counted_from(fields: dict[str, Any], db: Database) -> None:
    target = Target(db, **fields)
    target.write(items(*range(100)))
    target.configure(**{**fields, "track_deletes": {"max_fraction": 1.0}})
    target.write(items(*range(30)))
    target.configure(**fields)
    target.write(items(*range(20)))
    assert len(target.live()) == 20


def test_an_overwrite_whose_records_all_change_is_no_deletion(db: Database) -> None:
    target = Target(db)
    target.write(items(*range(50)))
    assert target.write(items(*range(50), now="other")).counts == (50, 0, 50, 0)


def test_an_overwrite_with_a_rejected_record_keeps_the_rows(db: Database) -> None:
    """The rejected record may be the new form of one that seems to be gone."""
    target = Target(db)
    target.write(items(1, 2))
    before = target.live()
    with pytest.raises(Refused, match="1 record could not be stored"):
        target.write([b'{"id":1}', b'{"id":2,"name":"\xff"}'])
    assert target.live() == before
    assert target.write([*items(1, 2), b'{"name":"\xff"}']).rejected == 1  # nothing is missing, so nothing is lost


def test_with_page_numbers_a_record_is_deleted_when_two_lists_lack_it(db: Database) -> None:
    target = Target(db, **TRACKED, **PAGES)
    target.write(items(1, 2, 3))
    assert target.write(items(1, 2)).deleted == 0
    assert target.write(items(1, 2, 3)).counts == (0, 0, 0, 3)  # it had moved to a page that was read before
    assert target.write(items(1, 2)).deleted == 0
    assert target.write(items(1, 2)).deleted == 1
    assert set(target.live()) == {"1", "2"}


def test_how_many_lists_have_to_lack_a_record_can_be_chosen(db: Database) -> None:
    target = Target(db, unique_key="id", track_deletes={"after": 3})
    target.write(items(1, 2))
    assert [target.write(items(1)).deleted for _ in range(3)] == [0, 0, 1]
    target.configure(unique_key="id", track_deletes={"after": 1}, **PAGES)
    target.write(items(1, 2))
    assert target.write(items(1)).deleted == 1


# --- keys ---------------------------------------------------------------------------------------------------------


def test_a_number_and_a_text_with_the_same_digits_are_never_merged(db: Database) -> None:
    target = Target(db, unique_key="id")
    written = target.write(items(1, "1", "a", 2), [{"id": "2"}, {"id": 2.0, "n": 1}])
    assert (written.added, written.rejected, written.repeated) == (3, 2, 1)
    assert "another JSON type" in written.reasons[0]
    assert set(target.live()) == {"1", "2", "a"}


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (range(30), [str(n) for n in range(30)], r'another JSON type .*"0", where 0 is stored.*--empty-cache'),
        ([str(n) for n in range(30)], range(40), r'another JSON type .* 0, where "0" is stored'),
        (range(30), [str(n) for n in range(30, 60)], r'another JSON type .*"30", where 30 is stored'),
        (range(30), [f"{n:04}" for n in range(30)], r'another form .*"0000", where "0" is stored'),
        (
            [f"AB-{n}" for n in range(9)],
            [f"ab-{n}" for n in range(9)],
            r'another form .*"ab-\d", where "AB-\d" is stored',
        ),
    ],
    ids=["texts", "numbers", "texts, all of new records", "zeros before them", "another case"],
)
def test_keys_that_all_change_their_form_write_nothing(
    old: Iterable[Any], new: Iterable[Any], sentence: str, db: Database
) -> None:
    target = Target(db, unique_key="id")
    target.write(items(*old))
    before = target.live()
    with pytest.raises(Refused, match=sentence):
        target.write(items(*new))
    assert target.live() == before


def test_a_key_that_changes_its_json_type_alone_is_rejected_and_its_old_record_stays(db: Database) -> None:
    target = Target(db, **TRACKED)
    target.write(items(*range(30), "a", "40"))
    before = target.live()
    changed: list[Any] = list(range(30))
    changed[0], changed[7] = "0", "7"
    written = target.write(items(*changed, "a", "40"))
    assert (written.counts, written.rejected) == ((0, 0, 0, 30), 2)
    assert "the stored record has the same unique_key with another JSON type" in written.reasons[0]
    assert target.live() == before
    assert target.write(items(*range(30), "a", 40)).rejected == 1
    assert target.write(items(*range(30), "a", "40")).counts == (0, 0, 0, 32)


def test_keys_in_another_json_type_are_taken_where_deletions_have_no_limit_or_the_cache_was_emptied(
    db: Database,
) -> None:
    target = Target(db, unique_key="id", track_deletes={"max_fraction": 1.0})
    target.write(items(*range(30)))
    assert target.write(items(*map(str, range(30)))).counts == (0, 30, 0, 0)
    assert target.write(items(*map(str, range(30)))).counts == (0, 0, 0, 30)
    with pytest.raises(Refused):
        Target(db, unique_key="id").write(items(*range(30)))
    db.transact(lambda connection: datasets.mark_emptied(connection, db, target.dataset))
    assert Target(db, unique_key="id").write(items(*range(30))).added == 30


def test_keys_of_several_fields_that_change_their_json_types_double_nothing(db: Database) -> None:
    target = Target(db, unique_key=["id", "day"])
    target.write([{"id": n, "day": "x"} for n in range(9)])
    with pytest.raises(Refused, match="another form"):
        target.write([{"id": str(n), "day": "x"} for n in range(9)])


@pytest.mark.parametrize("fields", [TRACKED, {"unique_key": "id"}], ids=["track_deletes", "upsert"])
def test_keys_in_a_new_form_double_nothing_and_delete_nothing(fields: dict[str, Any], db: Database) -> None:
    target = Target(db, **fields)
    target.write(items(*range(30)))
    before = target.live()
    with pytest.raises(Refused, match=r'another form .*"usr_0", where "0" is stored.*--empty-cache'):
        target.write(items(*(f"usr_{n}" for n in range(30))))
    assert target.live() == before


def test_new_records_of_the_same_form_are_welcome(db: Database) -> None:
    target = Target(db, unique_key="id")
    target.write(items(*range(30)))
    assert target.write(items(*range(100, 130))).added == 30
