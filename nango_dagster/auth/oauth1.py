"""OAuth 1.0a signatures (RFC 5849). docs/explanation/decisions.md says why no library makes them."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from base64 import b64encode
from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import quote, urlsplit

from .. import clock
from ..http import Request, form_pairs, query_of

_DIGESTS = {"HMAC-SHA1": hashlib.sha1, "HMAC-SHA256": hashlib.sha256}


def authorization(
    request: Request,
    held: Mapping[str, Any],
    *,
    nonce: str | None = None,
    timestamp: int | None = None,
    method: Literal["HMAC-SHA1", "HMAC-SHA256"] = "HMAC-SHA1",
) -> str:
    """The Authorization header of a request, signed with the application's and the connection's secret."""
    parameters = {
        "oauth_consumer_key": str(held["consumer_key"]),
        "oauth_nonce": nonce or secrets.token_hex(8),
        "oauth_signature_method": method,
        "oauth_timestamp": str(int(clock.now().timestamp()) if timestamp is None else timestamp),
        "oauth_token": str(held.get("oauth_token", "")),
        "oauth_version": "1.0",
    }
    key = f"{_encoded(str(held.get('consumer_secret', '')))}&{_encoded(str(held.get('oauth_token_secret', '')))}"
    text = base_string(request, parameters)
    digest = hmac.new(key.encode(), text.encode(), _DIGESTS[method]).digest()
    parameters["oauth_signature"] = b64encode(digest).decode()
    realm = [f'realm="{held["realm"]}"'] if held.get("realm") else []
    return "OAuth " + ", ".join([*realm, *(f'{name}="{_encoded(value)}"' for name, value in parameters.items())])


def base_string(request: Request, parameters: Mapping[str, str]) -> str:
    """The text that is signed: the method, the URL without its query, and all parameters in order (section 3.4.1).

    >>> base_string(Request("GET", "HTTP://Example.com:80/r%20v?b=2&a=1%20x"), {"oauth_nonce": "n"})
    'GET&http%3A%2F%2Fexample.com%2Fr%2520v&a%3D1%2520x%26b%3D2%26oauth_nonce%3Dn'
    """
    url = request.full_url
    pairs = [*query_of(url), *form_pairs(request), *parameters.items()]
    encoded = sorted((_encoded(name), _encoded(value)) for name, value in pairs)
    joined = "&".join(f"{name}={value}" for name, value in encoded)
    return "&".join([request.method.upper(), _encoded(_without_query(url)), _encoded(joined)])


def _without_query(url: str) -> str:
    parts = urlsplit(url)
    default_port = {"http": 80, "https": 443}.get(parts.scheme)
    host = (parts.hostname or "").lower()
    host = f"[{host}]" if ":" in host else host
    port = "" if parts.port in (None, default_port) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}{parts.path or '/'}"


def _encoded(text: str) -> str:
    return quote(text, safe="~", errors="surrogatepass")
