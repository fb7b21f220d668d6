"""The requests of a sync, as its config describes them, and how its API is treated."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..config import Sync
from ..http import Policy, RateLimit, Reach, Request, origin, query_pairs, secrets_of
from ..paging import style
from ..templates import render, render_text, render_url


def first_request(sync: Sync) -> Request:
    """The request of a sync's config, without the values of paging.

    >>> first_request(Sync(url="https://api.example.com/items?tag=a", query_params={"tag": "b", "limit": 5}))
    Request(GET https://api.example.com/items?tag=a&tag=b&limit=5)
    """
    request = Request(sync.method, sync.address, sync.headers, query_pairs(sync.query_params), sync.body)
    return request.with_query_as_params()


def opening_request(sync: Sync) -> Request:
    """The request for the first page, with the values of paging.

    >>> opening_request(Sync(url="https://api.example.com/items", paging_page_request_path="page"))
    Request(GET https://api.example.com/items?page=1)
    """
    return style(sync).first(with_limit(sync, first_request(sync)))


def next_request(sync: Sync, request: Request) -> Request:
    """The request that the second page's is made from: the first one with what `next_request` says.

    >>> sync = Sync(
    ...     url="https://api.example.com/list", method="POST", body={"path": ""},
    ...     next_request={"url": "https://api.example.com/list/continue", "body": {}},
    ... )
    >>> following = next_request(sync, first_request(sync))
    >>> following, following.body
    (Request(POST https://api.example.com/list/continue), {})
    """
    own = sync.next_request
    if own is None:
        return request
    changed = Request(
        own.method or request.method,
        own.url or request.url,
        request.headers if own.headers is None else own.headers,
        request.params if own.query_params is None else query_pairs(own.query_params),
        request.body if own.body is None else own.body,
    )
    return with_limit(sync, changed.with_query_as_params())


def with_limit(sync: Sync, request: Request) -> Request:
    """The request with `paging_limit`, where the sync has one.

    >>> sync = Sync(url="https://api.example.com/items", paging_limit=100, paging_limit_request_path="limit")
    >>> with_limit(sync, first_request(sync))
    Request(GET https://api.example.com/items?limit=100)
    """
    if sync.paging_limit_request_path is None or sync.paging_limit is None:
        return request
    return request.with_value(sync.paging_limit_request_path, sync.paging_limit)


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
    """The limits that a sync sets for its requests."""
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
