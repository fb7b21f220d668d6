"""The Link header (RFC 8288), read in linear time and as tolerantly as browsers read it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

# Each pattern is matched at one position, and none of them can backtrack: a header of any content costs linear time.
_URL: Final = re.compile(r"\s*<\s*([^>]*)>")
_PARAMETER: Final = re.compile(r"""\s*;\s*([^\s=;,<>"']*)\s*""")
_QUOTED: Final = re.compile(r'=\s*"([^"\\]*(?:\\.[^"\\]*)*)"', re.DOTALL)
_SINGLE_QUOTED: Final = re.compile(r"=\s*'([^']*)'(?=\s*(?:[;,]|$))")
# Without quotes, with one that is not closed, or with those of a text editor.
_PLAIN: Final = re.compile(r"""=\s*["'\u2018-\u201f]?([^\s;,"'\u2018-\u201f]*)["'\u2018-\u201f]?""")


@dataclass(frozen=True)
class Link:
    """One link of a Link header: its URL, which may be relative, and its parameters by their lower-case names."""

    url: str
    parameters: Mapping[str, str]

    @property
    def relations(self) -> tuple[str, ...]:
        """The words of its `rel`, in lower case."""
        return tuple(self.parameters.get("rel", "").lower().split())


def parse_links(header: str) -> list[Link]:
    """The links of a header, in their order; text between them that is no link is skipped.

    Values may stand in double quotes, in single quotes or without quotes. The first of two parameters of the same
    name counts (RFC 8288, section 3.3).

    >>> parse_links("</items?page=2>; rel='next'; results=false")
    [Link(url='/items?page=2', parameters={'rel': 'next', 'results': 'false'})]
    """
    return _parsed(header)[0]


def unread_text(header: str) -> str:
    """The parts of a Link header that belong to no link, joined; white space and commas are left out.

    >>> unread_text('</items?page=2>; rel="next", </items?page=9 rel="last"')
    '</items?page=9 rel="last"'
    """
    return _parsed(header)[1]


def _parsed(header: str) -> tuple[list[Link], str]:
    """The links of a header, and its text that belongs to no link."""
    header = utf8_text(header)
    links: list[Link] = []
    unread: list[str] = []
    position = 0
    while (start := header.find("<", position)) >= 0:
        match = _URL.match(header, start)
        if match is None:  # no closing bracket in all the rest
            break
        unread.append(header[position:start])
        parameters, position = _parameters(header, match.end())
        links.append(Link(match[1].strip(), parameters))
    unread.append(header[position:])
    return links, " ".join(stripped for text in unread if (stripped := text.strip(", \t")))


def _parameters(header: str, position: int) -> tuple[dict[str, str], int]:
    """The parameters that begin at a position, and the position behind them."""
    parameters: dict[str, str] = {}
    while (name := _PARAMETER.match(header, position)) is not None:
        position = name.end()
        value = ""
        for pattern in (_QUOTED, _SINGLE_QUOTED, _PLAIN) if header.startswith("=", position) else ():
            if match := pattern.match(header, position):
                value, position = match[1], match.end()
                break
        parameters.setdefault(name[1].lower(), re.sub(r"\\(.)", r"\1", value))
    return parameters, position


def links(header: str) -> dict[str, str]:
    """The URL of each relation; the first link of a relation counts.

    >>> links('<https://a.example?page=2>; rel="next", <https://a.example?page=9>; rel="last"')["last"]
    'https://a.example?page=9'
    """
    urls: dict[str, str] = {}
    for link in parse_links(header):
        for relation in link.relations:
            urls.setdefault(relation, link.url)
    return urls


def utf8_text(header: str) -> str:
    """The text of a header value whose bytes are UTF-8; Python reads the bytes of headers as Latin-1 (RFC 9110).

    >>> utf8_text("/suche/M\xc3\xbcller")
    '/suche/Müller'
    """
    if header.isascii():
        return header
    try:
        return header.encode("latin-1").decode()
    except UnicodeError:
        return header
