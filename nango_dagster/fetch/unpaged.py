"""Signs of a next page in an answer whose sync has no paging: the list may be longer than its first page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from ..errors import RecordRejected
from ..http import parse_links
from ..paging import Answer, is_end_beside_records
from ..records import decode

# Names of fields, in lower case and without "_", "-" and "@odata.".
_URLS: Final = frozenset({"next", "nexturl", "nextpageurl", "nextlink", "nextpage", "nextrecordsurl", "nextpageuri"})
_CURSORS: Final = frozenset(
    {"nextcursor", "nextpagetoken", "nexttoken", "endcursor", "nextpage", "nextoffset", "after"}
)
_FLAGS: Final = frozenset({"hasmore", "hasnext", "hasnextpage", "more", "moreavailable", "moredataavailable"})
_TOTALS: Final = frozenset({"totalcount", "totalresults", "totalrecords", "totalitems", "totalsize"})
_HEADER_TOTALS: Final = ("X-Total-Count", "X-Total", "X-WP-Total")
_ABOUT: Final = frozenset(
    {"paging", "pagination", "pageinfo", "meta", "metadata", "links", "page", "cursor", "cursors"}
)
_LARGEST: Final = 10_000  # bytes of a field that is looked into


def more_pages(page: Answer) -> str | None:
    """The sentence about a sign of further pages, with the field that would read them; None where there is none.

    `page` is the first page of a list that is read without paging.
    """
    sign = next(_signs(page), None) if page.size else None
    if sign is None:
        return None
    return f"no paging is configured, and {sign}. If the first page is all that you want, set max_pages: 1."


def _signs(page: Answer) -> Iterator[str]:
    headers = page.response.headers
    if any("next" in link.relations for link in parse_links(headers.get("Link", ""))):
        yield "the Link header leads to a next page; set paging_header_link_rel: next"
    for path, value in _fields(page):
        yield from _sign(path, value, page.size)
    unit = headers.get("Content-Range", "").rpartition("/")[2]
    totals = [("Content-Range", unit), *((name, headers.get(name, "")) for name in _HEADER_TOTALS)]
    for name, text in totals:
        if text.isascii() and text.isdigit() and int(text) > page.size:
            yield f"the header {name} says that the list has {int(text):,} records; {_COUNTED}"


_COUNTED: Final = "set paging_page_request_path or paging_offset_request_path"


def _sign(path: str, value: Any, size: int) -> Iterator[str]:
    name = _plain(path.rpartition(".")[2])
    if name in _URLS and isinstance(value, dict) and isinstance(value.get("href"), str):
        path, value = f"{path}.href", value["href"]
    if isinstance(value, str) and name in _URLS and value.startswith(("http://", "https://", "/", "?")):
        yield f'"{path}" leads to a next page; set paging_url_path: "{path}"'
    elif name in (*_URLS, *_CURSORS) and isinstance(value, str | int) and not isinstance(value, bool):
        if not is_end_beside_records(value) and value not in (0, -1):
            field = f'paging_cursor_metadata_response_path: "{path}"'
            yield f'"{path}" is {value!r:.80}; set {field} and paging_cursor_request_path'
    elif name in _FLAGS and value is True:
        yield f'"{path}" is true; set the fields of paging that the API documents'
    elif name in _TOTALS and isinstance(value, int) and value > size:
        yield f'"{path}" says that the list has {value:,} records; {_COUNTED}'


def _fields(page: Answer) -> Iterator[tuple[str, Any]]:
    """The fields beside the records, and those of objects about the paging, with their paths."""
    document = page.envelope.document
    for name, text in document.fields.items():
        value = _decoded(bytes(text))
        yield name, value
        if isinstance(value, dict) and _plain(name) in _ABOUT:
            yield from ((f"{name}.{inner}", item) for inner, item in value.items())


def _decoded(text: bytes) -> Any:
    try:
        return decode(text) if len(text) <= _LARGEST else None
    except RecordRejected:
        return None


def _plain(name: str) -> str:
    return name.lower().removeprefix("@odata.").lstrip("_").replace("_", "").replace("-", "")
