"""One request to another server, with time limits, redirects, address checks, retries and secrets starred.

The modules in the order of a request: `request` and `urls` (what is sent), `redirects` and `headers`, `client`,
`transport`, `sockets` and `addresses` (how it is sent), `failures` and `verdicts` (what came of it), `rates` and
`redaction`. `post` sends webhooks.
"""

from .addresses import Reach
from .client import Client, Interceptor, Policy
from .failures import TRANSPORT_ERRORS
from .links import Link, links, parse_links, unread_text
from .post import Posted, Poster
from .rates import Bucket, Limiter, RateLimit, asked_wait, bucket, is_rate_limited, wait_of
from .redaction import looks_secret, public_config, public_json, public_url, redact, url_secrets
from .redirects import redirected
from .request import FileBody, Request, Response, form_pairs, secrets_of
from .urls import Params, is_url, json_bytes, origin, query_of, query_pairs, query_text
from .verdicts import Failure, Judge, Verdict

__all__ = [
    "TRANSPORT_ERRORS",
    "Bucket",
    "Client",
    "Failure",
    "FileBody",
    "Interceptor",
    "Judge",
    "Limiter",
    "Link",
    "Params",
    "Policy",
    "Posted",
    "Poster",
    "RateLimit",
    "Reach",
    "Request",
    "Response",
    "Verdict",
    "asked_wait",
    "bucket",
    "form_pairs",
    "is_rate_limited",
    "is_url",
    "json_bytes",
    "links",
    "looks_secret",
    "origin",
    "parse_links",
    "public_config",
    "public_json",
    "public_url",
    "query_of",
    "query_pairs",
    "query_text",
    "redact",
    "redirected",
    "secrets_of",
    "unread_text",
    "url_secrets",
    "wait_of",
]
