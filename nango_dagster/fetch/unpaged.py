"""Signs of a next page in an answer whose sync has no paging: the list may be longer than its first page."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final

from ..errors import RecordRejected
from ..http import parse_links
from ..paging import Answer, is_end_beside_records
from ..paths import is_query
from ..records import decode, parts_of, text_at

# Names of fields, in lower case and without "_", "-" and "@odata.".
_URLS: Final = frozenset({"next", "nexturl", "nextpageurl", "nextlink", "nextpage", "nextrecordsurl", "nextpageuri"})
_CURSORS: Final = frozenset(
    [
        *("nextcursor", "nextpagetoken", "nexttoken", "endcursor", "nextpage", "nextoffset", "after", "nextmarker"),
        *("continuationtoken", "nextcontinuationtoken", "continuation", "lastevaluatedkey"),
    ]
)
_MORE_FLAGS: Final = frozenset(
    [
        *("hasmore", "hasnext", "hasnextpage", "more", "moreavailable", "moredataavailable", "hasmoreresults"),
        *("hasmoreitems", "hasmoredata", "hasmorepages", "hasmorerecords", "istruncated", "exceededtransferlimit"),
    ]
)
_END_FLAGS: Final = frozenset({"done", "last", "islast", "islastpage", "lastpage", "isdone"})
_TOTALS: Final = frozenset({"totalcount", "totalresults", "totalrecords", "totalitems", "totalsize", "totalelements"})
_PAGES: Final = frozenset({"totalpages", "pages", "pagecount", "lastpage", "numpages"})
_POSITIONS: Final = frozenset({"startat", "offset", "skip", "start", "limit", "maxresults", "pagesize", "perpage"})
"""Beside one of these, `total` or `count` is that of the whole list."""
_HEADER_TOTALS: Final = ("X-Total-Count", "X-Total", "X-WP-Total")
_HEADER_PAGES: Final = ("X-Total-Pages", "X-WP-TotalPages", "X-Page-Count")
_ABOUT: Final = frozenset(
    {"paging", "pagination", "pageinfo", "meta", "metadata", "links", "page", "cursor", "cursors", "responsemetadata"}
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
    for path, value, siblings in _fields(page):
        yield from _sign(path, value, siblings, page.size)
    unit = headers.get("Content-Range", "").rpartition("/")[2]
    totals = [("Content-Range", unit), *((name, headers.get(name, "")) for name in _HEADER_TOTALS)]
    for name, text in totals:
        if text.isascii() and text.isdigit() and int(text) > page.size:
            yield f"the header {name} says that the list has {int(text):,} records; {_COUNTED}"
    for name in _HEADER_PAGES:
        text = headers.get(name, "")
        if text.isascii() and text.isdigit() and int(text) > 1:
            yield f"the header {name} says that the list has {int(text):,} pages; {_COUNTED}"
    if headers.get("X-Next-Page", "").strip():
        yield f"the header X-Next-Page names a next page; {_COUNTED}"


_COUNTED: Final = "set paging_page_request_path or paging_offset_request_path"


def _sign(path: str, value: Any, siblings: Collection[str], size: int) -> Iterator[str]:
    """The sign in one field, which has the fields `siblings` beside it."""
    name = _plain(path.rpartition(".")[2])
    if name in ("link", "links") and isinstance(value, list):
        yield from _sign_of_links(path, value)
    if name in _URLS and isinstance(value, dict) and isinstance(value.get("href"), str):
        path, value = f"{path}.href", value["href"]
    if isinstance(value, str) and name in _URLS and value.startswith(("http://", "https://", "/", "?")):
        yield f'"{path}" leads to a next page; set paging_url_path: "{path}"'
    elif name in (*_URLS, *_CURSORS) and isinstance(value, str | int) and not isinstance(value, bool):
        if not is_end_beside_records(value) and value not in (0, -1):
            field = f'paging_cursor_metadata_response_path: "{path}"'
            yield f'"{path}" is {value!r:.80}; set {field} and paging_cursor_request_path'
    elif name in _CURSORS and isinstance(value, dict) and value:
        yield f'"{path}" says where the next page begins; set the fields of paging that the API documents'
    elif (name in _MORE_FLAGS and value is True) or (name in _END_FLAGS and value is False):
        yield f'"{path}" is {str(value).lower()}; set the fields of paging that the API documents'
    elif isinstance(value, int) and not isinstance(value, bool):
        yield from _sign_of_number(path, name, value, siblings, size)


def _sign_of_number(path: str, name: str, value: int, siblings: Collection[str], size: int) -> Iterator[str]:
    is_total = name in _TOTALS or (
        name in ("total", "count") and any(_plain(other) in _POSITIONS for other in siblings)
    )
    if is_total and value > size:
        yield f'"{path}" says that the list has {value:,} records; {_COUNTED}'
    elif name in _PAGES and value > 1:
        yield f'"{path}" says that the list has {value:,} pages; {_COUNTED}'


def _sign_of_links(path: str, links: Sequence[Any]) -> Iterator[str]:
    """The sign in a list of links with relations, such as those of FHIR and PayPal."""
    for link in links:
        for relation in ("rel", "relation"):
            address = next((name for name in ("href", "url") if isinstance(link, dict) and link.get(name)), None)
            if address and link.get(relation) == "next":
                query = f"$.{path}[?@.{relation} == 'next'].{address}"
                yield f'"{path}" has a link to a next page; set paging_url_path: "{query}"'


def _fields(page: Answer) -> Iterator[tuple[str, Any, Collection[str]]]:
    """The fields beside the records and around them, and those of objects about the paging.

    For each its path, its value, and the names of all fields of its object.
    """
    document = page.envelope.document
    around = [("", document.fields)]
    if not is_query(document.likely_path):
        steps = document.steps(document.likely_path)
        texts = [text_at(document.text, steps[:number]) for number in range(1, len(steps))]
        for number, text in enumerate(texts, start=1):
            if text is not None and text[:1] == b"{":
                around.append((".".join(map(str, steps[:number])) + ".", parts_of(text)))
    for before, fields in around:
        for name, text in fields.items():
            yield from _with_inner(f"{before}{name}", _decoded(bytes(text)), fields.keys())


def _with_inner(path: str, value: Any, siblings: Collection[str]) -> Iterator[tuple[str, Any, Collection[str]]]:
    yield path, value, siblings
    if isinstance(value, dict) and _plain(path.rpartition(".")[2]) in _ABOUT:
        for name, inner in value.items():
            yield from _with_inner(f"{path}.{name}", inner, value.keys())


def _decoded(text: bytes) -> Any:
    try:
        return decode(text) if len(text) <= _LARGEST else None
    except RecordRejected:
        return None


def _plain(name: str) -> str:
    return name.lower().removeprefix("@odata.").lstrip("_").replace("_", "").replace("-", "")
