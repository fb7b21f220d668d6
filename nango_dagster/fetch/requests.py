"""The requests of a sync, as its config describes them, and how its API is treated."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..config import Sync
from ..http import Policy, RateLimit, Reach, Request, looks_secret, origin, query_pairs
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


def digest(sync: Sync, request: Request) -> str:
    """Changes when the config or the request does, except for credentials in its headers: those change by the hour."""
    headers = {name: value for name, value in request.headers.items() if not looks_secret(name)}
    parts = f"{sync.fingerprint()} {replace(request, headers=headers).fingerprint()}"
    return hashlib.blake2b(parts.encode(), digest_size=16).hexdigest()


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
