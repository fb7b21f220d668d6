"""The formats of answers: each becomes JSON text, and a body in another format is refused with the field to set."""

from __future__ import annotations

import csv
import gzip
import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nango_dagster.bodies import BodyLimits, Format, json_text
from nango_dagster.errors import ApiError, RecordRejected
from nango_dagster.http import Response
from nango_dagster.records import decode, read
from tests.executions import items
from tests.fake_api import Answer, FakeApi
from tests.test_fetch import fetch, made

PEOPLE = [{"id": 1, "name": "Jörg"}, {"id": 2, "name": "Zoë"}]
LINES = "".join(json.dumps(person, ensure_ascii=False) + "\n" for person in PEOPLE).encode()
TEXT = json.dumps(PEOPLE, ensure_ascii=False)


def body(
    content: bytes, content_type: str | None = "application/json", format: Format | None = None, url: str = ""
) -> Any:
    """The decoded JSON text of an answer."""
    headers = {} if content_type is None else {"Content-Type": content_type}
    return json.loads(json_text(Response(200, headers, content, url), format))


def refused(content: bytes, content_type: str | None = "application/json", format: Format | None = None) -> str:
    with pytest.raises(ApiError) as info:
        body(content, content_type, format)
    return str(info.value)


# --- JSON lines -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("media_type", ["application/x-ndjson", "application/jsonl; charset=utf-8", "text/x-ndjson"])
def test_json_lines_are_known_by_their_content_type(media_type: str) -> None:
    assert body(LINES, media_type) == PEOPLE


@pytest.mark.parametrize(
    "content",
    [LINES, LINES.rstrip(b"\n"), LINES.replace(b"\n", b"\r\n"), b"\n\n" + LINES + b"\n \n", b"\xef\xbb\xbf" + LINES],
)
def test_json_lines_may_end_as_they_like(content: bytes) -> None:
    assert body(content, "text/plain", "jsonl") == PEOPLE


def test_a_single_line_is_one_record() -> None:
    assert body(b'{"id": 1}\n', "application/x-ndjson") == [{"id": 1}]


def test_no_lines_are_no_records() -> None:
    assert body(b"", "application/x-ndjson") == []


def test_a_line_that_is_no_json_costs_only_itself() -> None:
    page = read(json_text(Response(200, {}, b'{"id": 1}\n{"id": oops}\n{"id": 3}\n', ""), "jsonl"))
    assert (page.records, [bad.position for bad in page.rejected]) == ([b'{"id": 1}', b'{"id": 3}'], [1])


@pytest.mark.parametrize("end", [b'{"id": 3, "na', b"terminated early"])
def test_lines_that_were_cut_off_are_no_whole_list(end: bytes) -> None:
    assert "the last line is no JSON" in refused(LINES + end, "application/x-ndjson")


def test_lines_without_their_content_type_are_refused_with_the_field_to_set() -> None:
    for media_type in ("application/json", "text/plain", None):
        assert refused(LINES, media_type) == (
            "the response is JSON lines, one JSON value on each line; set format: jsonl."
        )


def test_one_error_object_is_no_record_where_lines_are_only_configured() -> None:
    assert "an error" in refused(b'{"error": "rate limit"}', "application/json", "jsonl")
    assert body(b'{"error": null, "id": 1}', "application/json", "jsonl") == [{"error": None, "id": 1}]


def test_a_json_list_is_read_although_lines_are_configured() -> None:
    assert body(TEXT.encode(), "application/json", "jsonl") == PEOPLE


# --- CSV --------------------------------------------------------------------------------------------------------------


def test_csv_is_known_by_its_content_type_and_every_value_is_text() -> None:
    content = b'id,name,note\r\n007,"M\xc3\xbcller, Ann","two\nlines"\r\n8,,\r\n'
    assert body(content, "text/csv") == [
        {"id": "007", "name": "Müller, Ann", "note": "two\nlines"},
        {"id": "8", "name": None, "note": None},
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_of_csv_is_read_from_its_first_line(delimiter: str) -> None:
    content = delimiter.join(["id", "name"]) + "\n" + delimiter.join(["1", "a b"]) + "\n"
    assert body(content.encode(), "text/csv") == [{"id": "1", "name": "a b"}]


def test_tab_separated_values_have_their_own_name() -> None:
    assert body(b"id\tname\n1\ta,b\n", "text/plain", "tsv") == [{"id": "1", "name": "a,b"}]


def test_csv_in_a_declared_charset_is_read_in_it() -> None:
    assert body("id;ort\n1;Köln\n".encode("latin-1"), "text/csv; charset=ISO-8859-1") == [{"id": "1", "ort": "Köln"}]


def test_a_csv_of_a_header_alone_has_no_records() -> None:
    assert body(b"id,name\n", "text/csv") == []


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "the response is empty; wanted CSV with a line of column names."),
        (b"Quota exceeded\n", "the response is one line of text"),
        (b"Sorry, try later\n", "the response is one line of text"),
        (b"id,name\n1,2,3\n", "row 1 of the CSV has 3 cells, and the header has 2."),
        (b"id,name\n1,Ann\n2", 'the CSV was cut off: its last row has 1 cells, and the header has 2: "2".'),
        (b"id,name\n1,Ann\nERROR: timed out\n", "the CSV was cut off: its last row has 1 cells"),
        (b"id,name\n1\n2", "the CSV was cut off: its last row has 1 cells"),
        (b'id,name\n1,"open', "the response is no complete CSV: line 2: unexpected end of data."),
        (b"<html>", "the response is HTML or XML; wanted CSV, as format says."),
    ],
)
def test_what_is_no_table_is_no_empty_list(content: bytes, sentence: str) -> None:
    assert refused(content, "text/plain", "csv").startswith(sentence)


def test_a_csv_that_leaves_out_empty_cells_at_the_ends_of_its_rows_is_read() -> None:
    rows = body(b"id,name,note\n1,Ann\n2,Bob,x\n3\n", "text/csv")
    assert [list(row.values()) for row in rows] == [["1", "Ann", None], ["2", "Bob", "x"], ["3", None, None]]


def test_an_error_in_json_is_no_table_without_rows() -> None:
    assert body(b'{"error": "too many, wait"}', "text/csv") == {"error": "too many, wait"}


def test_columns_without_a_name_or_with_a_repeated_one_are_kept_apart() -> None:
    assert body(b"id,,id\n1,2,3\n", "text/csv") == [{"id": "1", "column_2": "2", "id_2": "3"}]


def test_a_cell_that_is_no_utf_8_costs_only_its_record() -> None:
    content = b'id,name\n1,K\xf6ln "x"\n2,Bath\n'
    page = read(json_text(Response(200, {}, content, ""), "csv"))
    with pytest.raises(RecordRejected, match="not valid UTF-8"):
        decode(page.records[0])
    assert decode(page.records[1]) == {"id": "2", "name": "Bath"}


def test_csv_without_its_content_type_is_refused_with_the_field_to_set() -> None:
    assert (
        refused(b"id,name\n1,Ann\n2,Bob\n", "text/plain") == "the response looks like CSV; if it is, set format: csv."
    )
    assert "set format: tsv" in refused(b"id\tname\n1\tAnn\n", "text/plain")


@given(
    st.lists(
        st.lists(
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), min_size=1),
            min_size=2,
            max_size=2,
        )
    )
)
def test_any_table_that_python_writes_is_read_as_it_was(rows: list[list[str]]) -> None:
    stream = io.StringIO(newline="")
    csv.writer(stream).writerows([["a", "b"], *rows])
    assert body(stream.getvalue().encode(), "text/csv") == [{"a": a, "b": b} for a, b in rows]


# --- gzip files -------------------------------------------------------------------------------------------------------


def test_a_gzip_file_is_unpacked_and_read_as_its_name_says() -> None:
    url = "https://files.example/exports/events.jsonl.gz?signature=x"
    assert body(gzip.compress(LINES), "application/gzip", url=url) == PEOPLE
    assert body(gzip.compress(LINES), "application/octet-stream", "jsonl") == PEOPLE
    assert body(gzip.compress(TEXT.encode()), "application/gzip") == PEOPLE
    assert body(gzip.compress(b"id,b\n1,2\n"), "binary/octet-stream", url="/a.csv.gz") == [{"id": "1", "b": "2"}]


def test_a_gzip_file_may_have_several_members() -> None:
    one, two = LINES.splitlines(keepends=True)
    assert body(gzip.compress(one) + gzip.compress(two) + b"\0\0", None, "jsonl") == PEOPLE


def test_a_gzip_file_that_unpacks_to_more_than_the_limit_is_refused() -> None:
    content = gzip.compress(b"[" + b" " * 3_000_000 + b"]")
    with pytest.raises(ApiError, match="a gzip file of more than 1,000,000 bytes, its max_page_bytes"):
        json_text(Response(200, {}, content, ""), None, BodyLimits(max_bytes=1_000_000))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (gzip.compress(LINES)[:-9], "ends too early"),
        (b"\x1f\x8b" + b"x" * 20, "broken"),
        (gzip.compress(LINES) + b"more", "with other data behind it"),
    ],
    ids=["ends too early", "broken", "other data behind"],
)
def test_a_broken_gzip_file_is_an_error(content: bytes, sentence: str) -> None:
    assert sentence in refused(content, "application/gzip", "jsonl")


# --- charsets and prefixes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "charset"),
    [
        (TEXT.encode("latin-1"), "ISO-8859-1"),
        (TEXT.encode("cp1252"), '"windows-1252"'),
        (TEXT.encode("utf-16"), "utf-16"),
        (TEXT.encode("utf-16-le"), "UTF-16"),
        (TEXT.encode("utf-16-be"), "utf-16be"),
        (TEXT.encode("utf-16"), "utf-8"),
        (TEXT.encode("utf-32"), "utf-32"),
        (TEXT.encode(), "utf-8"),
        (TEXT.encode("utf-8-sig"), "ISO-8859-1"),
        (TEXT.encode(), "utf8mb4"),
    ],
)
def test_text_is_read_in_the_charset_that_it_has(content: bytes, charset: str) -> None:
    assert body(content, f"application/json; charset={charset}") == PEOPLE


def test_utf_16_without_any_declaration_is_known_by_its_zeros() -> None:
    assert body(TEXT.encode("utf-16-le")) == PEOPLE
    assert body(TEXT.encode("utf-16-be"), None) == PEOPLE


def test_the_typographic_signs_of_windows_are_read_although_latin_1_lacks_them() -> None:
    assert body('["5 €"]'.encode("cp1252"), "application/json; charset=iso-8859-1") == ["5 €"]


@pytest.mark.parametrize(
    ("content", "charset", "sentence"),
    [
        (b'["K\xf6ln"]', "x-unknown", 'the response has the charset "x-unknown", which is unknown here'),
        (b'["K\xf6ln"]', "unicode_escape", "which is unknown here"),
        (b'["K\xf6ln"]', "shift_jis", "says that its charset is shift_jis, and is no shift_jis text"),
    ],
)
def test_text_in_no_known_charset_is_refused(content: bytes, charset: str, sentence: str) -> None:
    assert sentence in refused(content, f"application/json; charset={charset}")


@pytest.mark.parametrize(
    "prefix", [")]}'\n", ")]}',\n", ")]}\n", "while(1);", "for (;;);", "\ufeff)]}'", "{}&& ", "  \n)]}'\n"]
)
def test_a_prefix_against_script_inclusion_is_skipped(prefix: str) -> None:
    assert body((prefix + TEXT).encode()) == PEOPLE


@pytest.mark.parametrize(
    ("content", "name"),
    [(b"PK\x03\x04xx", "a ZIP file"), (b"%PDF-1.7", "a PDF file"), (b"PAR1xxxx", "a Parquet file"), (b"  ", "empty")],
)
def test_a_refusal_names_the_format_that_came(content: bytes, name: str) -> None:
    assert name in refused(content, "application/octet-stream")


@given(st.binary(max_size=200), st.sampled_from([None, "json", "jsonl", "csv", "tsv"]))
def test_any_bytes_are_json_text_or_an_api_error(content: bytes, format: Format | None) -> None:
    try:
        text = json_text(Response(200, {"Content-Type": "text/plain; charset=big5"}, content, "/x.csv"), format)
    except ApiError:
        return
    assert text[:1] in (b"{", b"[")


# --- through a sync ---------------------------------------------------------------------------------------------------


def test_a_sync_reads_the_format_that_it_names(api: FakeApi) -> None:
    api.route("/items", Answer(body=b"id,name\n1,Ann\n", headers={"Content-Type": "text/plain"}))
    (page,) = fetch(made(api, format="csv"))
    assert page.records == [b'{"id":"1","name":"Ann"}']


def test_a_page_of_too_many_records_is_refused_with_the_field_to_set(api: FakeApi) -> None:
    api.route("/items", items(1, 2, 3))
    with pytest.raises(ApiError, match="more than 2 records; ask for smaller pages, or set max_page_records"):
        list(fetch(made(api, max_page_records=2)))
    assert [len(page.records) for page in fetch(made(api, max_page_records=3))] == [3]
