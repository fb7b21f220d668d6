"""Whether the answers showed that paging looks at the right place."""

from __future__ import annotations

from typing import Any

from ..config import Sync
from ..errors import ApiError
from ..http import parse_links
from ..paging import Answer, body_path
from ..paths import MISSING, first_steps, is_query
from ..records import described, fields_of

_DOUBTFUL_ENDS = ("no_cursor", "no_next_url")


class PagingEvidence:
    """Whether any answer had something at the paging path, null included, and what the first answer has instead.

    A list of one page rightly has no next page. It is doubtful where the page was as full as its limit, or where the
    object around the path was there without it: a path that is written wrong ends every list at its first page. That
    object is the last record for a cursor inside it. A header is only looked for: many APIs leave it out at the end.
    """

    def __init__(self, sync: Sync) -> None:
        self._path = body_path(sync)
        self._record_path = sync.paging_cursor_object_response_path
        self._relation = sync.paging_header_link_rel
        self._header = "Link" if self._relation else sync.paging_header_cursor or sync.paging_header_url
        self._limit = sync.paging_limit
        self._is_there = (self._path or self._record_path or self._header) is None
        self._is_full = False
        self._around: str | None = None
        self._fields = ""

    def see(self, page: Answer) -> None:
        """Take an answer into account. Raises ApiError where the value at the path cannot be read."""
        if self._is_there:
            return
        document = page.envelope.document
        self._is_there = bool(document.text) and self._is_found(page)
        if page.number > 1 or self._is_there or not document.text:
            return
        self._is_full = self._limit is not None and page.size >= self._limit
        self._around = self._surroundings(page)
        self._fields = described(document.text)

    def _is_found(self, page: Answer) -> bool:
        if self._path is not None:
            return page.envelope.dig(self._path) is not MISSING
        if self._record_path is not None:
            return page.envelope.dig_last(self._record_path) is not MISSING
        relations = self._relations(page)
        return self._header in page.response.headers and (self._relation in relations or "next" not in relations)

    def _surroundings(self, page: Answer) -> str | None:
        """The names beside the place at which nothing was found; None where there is nothing around it, either."""
        if self._record_path is not None:
            return fields_of(page.envelope.records[-1]) if page.envelope.records else None
        if self._path is None:
            return ", ".join(f'"{name}"' for name in self._relations(page)) or None
        document = page.envelope.document
        ways = first_steps(self._path) if is_query(self._path) else [document.steps(self._path)]
        around = [document.names_at(steps[:-1]) for steps in ways if len(steps) > 1]
        return next((names for names in around if names is not None), None)

    def _relations(self, page: Answer) -> list[str]:
        """The relations of the Link header, where paging follows one of them."""
        links = parse_links(page.response.headers.get("Link", "")) if self._relation else ()
        return [relation for link in links for relation in link.relations]

    @property
    def _place(self) -> str:
        if self._path is not None:
            return f'the paging path "{self._path}"'
        if self._record_path is not None:
            return f'paging_cursor_object_response_path "{self._record_path}" of the last record'
        return f'the link "{self._relation}" of the Link header' if self._relation else f"the header {self._header}"

    def check_links(self, page: Answer) -> None:
        """Raise ApiError where the paging path finds nothing, and the answer has a link whose relation is next."""
        document = page.envelope.document
        if self._path is None or document.text[:1] != b"{" or page.envelope.dig(self._path) is not MISSING:
            return
        for name in ("link", "links"):
            links = page.envelope.dig(name) if name in document.fields else None
            for link in links if isinstance(links, list) and page.size else ():
                relation, target = _next_link(link)
                if relation and target:
                    query = f"$.{name}[?@.{relation} == 'next'].{target}"
                    raise ApiError(
                        f'nothing at the paging path "{self._path}", and the answer has a link to a next page in '
                        f'"{name}"; set paging_url_path: "{query}".'
                    )

    def settle(self) -> None:
        """Take into account that the API itself has said where its list ends."""
        self._is_there = True

    def doubt(self, reason: str) -> str | None:
        """The sentence about a list that ended for a reason, where its end is doubtful."""
        if self._is_there or reason not in _DOUBTFUL_ENDS or not (self._is_full or self._around is not None):
            return None
        around = f"; the object around it has {self._around or 'nothing'}" if self._around is not None else ""
        around = around.replace("the object around it", "the last record") if self._record_path else around
        around = around.replace("the object around it", "the header") if self._relation else around
        full = f"; the first page was full with {self._limit:,} records" if self._is_full and self._limit else ""
        return f"no answer has anything at {self._place}; the first answer is {self._fields}{around}{full}."


def _next_link(link: Any) -> tuple[str | None, str | None]:
    """The names of a link's relation and target, where it leads to a next page."""
    if not isinstance(link, dict):
        return None, None
    relation = next((name for name in ("rel", "relation") if link.get(name) == "next"), None)
    return relation, next((name for name in ("href", "url", "uri") if link.get(name)), None)
