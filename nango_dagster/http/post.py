"""One POST to an address of somebody else's, of which only the status matters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from requests import RequestException
from urllib3.exceptions import HTTPError

from ..errors import ConfigError
from .client import checked_headers, phrase, with_defaults
from .values import Place, Request, split
from .wire import Limits, Reach, TooLarge, UnknownEncoding, Watch, Wire, breakdown

_MOST_BYTES: Final = 16_000  # of an answer that nobody reads; a shorter one lets the connection live on


@dataclass(frozen=True)
class Posted:
    """What came of it: the status, or why there is none; it may have arrived all the same."""

    status: int | None
    trouble: str | None = None
    """What follows "the receiver", where the status is none of success; it shows no more of the URL than its host."""


class Poster:
    """Sends bodies over connections that it keeps alive, each once; for one thread at a time.

    No redirect is followed, and of the answer a little is read and thrown away.
    """

    def __init__(self, *, timeout: float, reach: Reach = "anywhere") -> None:
        """`timeout` is for all of a POST, in seconds."""
        self._limits = Limits(min(timeout, 10.0), timeout, timeout, _MOST_BYTES, cut=True)
        self._wire = Wire(Watch(reach, timeout, lambda: None))

    def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Posted:
        """Send it; whatever goes wrong is told."""
        try:
            asked = Request("POST", url, headers).with_userinfo_in_header()
            place = split(asked.url)
        except ConfigError:  # which shows more of the URL than its host
            return Posted(None, "cannot be asked: its address is no URL; wanted https://host/path")
        try:
            return self._exchange(asked, place, body)
        except ConfigError as refused:
            return Posted(None, f"was not asked: {str(refused).rstrip('.')}")

    def _exchange(self, asked: Request, place: Place, body: bytes) -> Posted:
        sent = with_defaults(checked_headers({**asked.headers, "Accept-Encoding": "identity"}))
        try:
            status = self._wire.exchange("POST", asked.url, place, sent, body, self._limits).status
        except (RequestException, HTTPError, OSError, ValueError, TooLarge, UnknownEncoding) as error:
            return Posted(None, breakdown(error, place, self._limits).sentence)
        return Posted(status, None if 200 <= status < 300 else f"answered {phrase(status)}")

    def close(self) -> None:
        """Leave the connections to others."""
        self._wire.close()
