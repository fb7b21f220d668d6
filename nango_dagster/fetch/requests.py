"""The requests of a sync, as its config describes them, and how its API is treated."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..config import Sync
from ..http import Policy, RateLimit, Reach, Request, origin, query_pairs, secrets_of
from ..templates import render, render_text, render_url


def first_request(sync: Sync) -> Request:
    """What a sync asks for, before paging has a say in it.

    >>> first_request(Sync(url="https://api.example.com/items?tag=a", query_params={"tag": "b", "limit": 5}))
    Request(GET https://api.example.com/items?tag=a&tag=b&limit=5)
    """
    request = Request(sync.method, sync.url, sync.headers, query_pairs(sync.query_params), sync.body)
    return request.with_query_as_params()


def filled(request: Request, variables: Mapping[str, Any]) -> Request:
    """The request as it is sent, with the values of its placeholders."""
    return Request(
        request.method,
        render_url(request.url, variables),
        {name: render_text(value, variables) for name, value in request.headers.items()},
        tuple(pair for name, value in request.params for pair in query_pairs({name: render(value, variables)})),
        render(request.body, variables),
    ).with_userinfo_in_header()


def digest(
    sync: Sync, request: Request, secrets: Iterable[str] = (), key: Callable[[], bytes | None] = lambda: None
) -> str | None:
    """A hash of the config, the request and the secrets in use; None where there are secrets and no key for it."""
    known = sorted({*secrets_of(first_request(sync)), *secrets})
    hash_key = key() if known else b""
    if hash_key is None:
        return None
    parts = [sync.fingerprint(), request.fingerprint(), *known]
    return hashlib.blake2b("\0".join(parts).encode(), key=hash_key, digest_size=16).hexdigest()


def policy_of(sync: Sync, reach: Reach = "anywhere") -> Policy:
    """How a sync wants its API to be treated."""
    rate = sync.rate_limit
    return Policy(
        name=sync.display_name,
        timeout=sync.timeout,
        retries=sync.retries,
        max_bytes=sync.max_page_bytes,
        allowed_origins=frozenset(map(origin, sync.allowed_origins)),
        reach=reach,
        rate_limit=RateLimit(sync.integration_key, rate.requests, rate.per) if rate else None,
    )
