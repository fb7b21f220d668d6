"""The requests of an incremental sync: its bounds in a parameter, a header or a body, or where a template has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from ..config import Incremental, Sync
from ..fetch import Access, first_request, opening_request
from ..http import Request
from ..incremental import Cursor, written, written_like, written_time


@dataclass(frozen=True)
class Bounds:
    """The bounds of one list; None for a bound that is not sent."""

    lower: Cursor | None
    until: datetime

    def request(self, sync: Sync, block: Incremental | None, form: str | None) -> Request:
        """The request for the first page between them."""
        if block is None:
            return opening_request(sync)
        if self.lower is not None and block.token_url_path is not None:
            return first_request(sync).follow(str(self.lower.written))
        request = opening_request(sync)
        if self.lower is not None and block.request_path is not None:
            request = request.with_value(block.request_path, written(self.lower, form))
        if self.lower is not None and block.header is not None:
            headers = {name: value for name, value in request.headers.items() if name.lower() != block.header.lower()}
            request = replace(request, headers={**headers, block.header: str(written(self.lower, form))})
        if block.until is not None:
            request = request.with_value(block.until.request_path, self._upper(form))
        return request

    def values(self, form: str | None) -> dict[str, Any]:
        """The values of the placeholders that stand for them."""
        values: dict[str, Any] = {"until": self._upper(form)}
        if self.lower is not None:
            values["since"] = values["last_sync_date"] = written(self.lower, form)
        return values

    def _upper(self, form: str | None) -> str | int | float:
        if form is None and self.lower is not None and self.lower.moment is not None:
            return written_like(self.lower.written, self.until)
        return written_time(self.until, form or "iso_seconds")


class BoundAccess:
    """The access of a connection, with the values of bounds."""

    def __init__(self, access: Access | None, values: Mapping[str, Any]) -> None:
        self._access = access
        self._values = values

    def variables(self, fresh: bool = False) -> Mapping[str, Any]:
        """The values of placeholders."""
        return {**(self._access.variables(fresh) if self._access else {}), **self._values}

    def sign(self, request: Request) -> Request:
        """The request with the credentials that the API expects."""
        return self._access.sign(request) if self._access else request

    def secrets(self) -> tuple[str, ...]:
        """The values to star wherever they occur."""
        return self._access.secrets() if self._access else ()

    def identity(self) -> tuple[Mapping[str, Any], tuple[str, ...]]:
        """The values of placeholders and the secrets that stay the same when an access token is refreshed."""
        variables, secrets = self._access.identity() if self._access else ({}, ())
        return {**variables, **self._values}, secrets

    def hash_key(self) -> bytes | None:
        """The key of hashes that secrets go into."""
        return self._access.hash_key() if self._access else None

    def close(self) -> None:
        """End the waits of other threads."""
        if self._access is not None:
            self._access.close()
