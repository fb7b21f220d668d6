"""Whether the answers showed that paging looks at the right place."""

from __future__ import annotations

from typing import Any

from ..config import Sync
from ..errors import ApiError
from ..paging import Answer, body_path
from ..paths import MISSING, first_steps, is_query
from ..records import described

_DOUBTFUL_ENDS = ("no_cursor", "no_next_url")


class PagingEvidence:
    """Whether any answer had something at the paging path, null included, and what the first answer has instead.

    A list of one page rightly has no next page. It is doubtful where the page was as full as its limit, or where the
    object around the path was there without it: a path that is written wrong ends every list at its first page.
    """

    def __init__(self, sync: Sync) -> None:
        self._path = body_path(sync)
        self._limit = sync.paging_limit
        self._is_there = False
        self._is_full = False
        self._around: str | None = None
        self._fields = ""

    def see(self, page: Answer) -> None:
        """Take an answer into account. Raises ApiError where the value at the path cannot be read."""
        if self._path is None or self._is_there:
            return
        document = page.envelope.document
        self._is_there = bool(document.text) and page.envelope.dig(self._path) is not MISSING
        if page.number > 1 or self._is_there or not document.text:
            return
        self._is_full = self._limit is not None and page.size >= self._limit
        ways = first_steps(self._path) if is_query(self._path) else [document.steps(self._path)]
        around = [document.names_at(steps[:-1]) for steps in ways if len(steps) > 1]
        self._around = next((names for names in around if names is not None), None)
        self._fields = described(document.text)

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
        if self._path is None or self._is_there or reason not in _DOUBTFUL_ENDS:
            return None
        if not self._is_full and self._around is None:
            return None
        around = f"; the object around it has {self._around or 'nothing'}" if self._around is not None else ""
        full = f"; the first page was full with {self._limit:,} records" if self._is_full and self._limit else ""
        place = f'the paging path "{self._path}"'
        return f"no answer has anything at {place}; the first answer is {self._fields}{around}{full}."


def _next_link(link: Any) -> tuple[str | None, str | None]:
    """The names of a link's relation and target, where it leads to a next page."""
    if not isinstance(link, dict):
        return None, None
    relation = next((name for name in ("rel", "relation") if link.get(name) == "next"), None)
    return relation, next((name for name in ("href", "url", "uri") if link.get(name)), None)
