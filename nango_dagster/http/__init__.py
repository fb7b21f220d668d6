"""One request, with time limits, redirects, address checks, retries and secrets starred."""

from .client import Client, Policy, redirected
from .post import Posted, Poster
from .rates import Bucket, Limiter, RateLimit, asked_wait, bucket
from .redaction import looks_secret, public_config, public_json, public_url, redact, secrets_of
from .values import (
    Params,
    Request,
    Response,
    form_pairs,
    is_url,
    json_bytes,
    links,
    origin,
    query_of,
    query_pairs,
    query_text,
)
from .wire import Reach

__all__ = [
    "Bucket",
    "Client",
    "Limiter",
    "Params",
    "Policy",
    "Posted",
    "Poster",
    "RateLimit",
    "Reach",
    "Request",
    "Response",
    "asked_wait",
    "bucket",
    "form_pairs",
    "is_url",
    "json_bytes",
    "links",
    "looks_secret",
    "origin",
    "public_config",
    "public_json",
    "public_url",
    "query_of",
    "query_pairs",
    "query_text",
    "redact",
    "redirected",
    "secrets_of",
]
