"""The Authorization header of Amazon Web Services: Signature Version 4.

See https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from datetime import datetime
from functools import reduce
from urllib.parse import parse_qsl, quote, urlsplit

from ..http import Request
from ..http.request import body_bytes

_ALGORITHM = "AWS4-HMAC-SHA256"
_SIGNED = "host;x-amz-date"


@dataclass(frozen=True)
class AwsKey:
    """An access key, and the region and service that a signature is made for."""

    key_id: str
    secret: str = field(repr=False)
    region: str
    service: str


def authorization(request: Request, key: AwsKey, moment: datetime, host: str | None = None) -> str:
    """The header of a request that also has the header `x-amz-date` with this moment, in UTC.

    The signature of Amazon's own example:

    >>> from datetime import timezone
    >>> key = AwsKey("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "us-east-1", "service")
    >>> at = datetime(2015, 8, 30, 12, 36, tzinfo=timezone.utc)
    >>> authorization(Request("GET", "https://example.amazonaws.com/"), key, at).rpartition("=")[2][:16]
    '5fa00fa31553b73e'
    """
    parts = urlsplit(request.full_url)
    pairs = sorted((_encoded(name), _encoded(value)) for name, value in parse_qsl(parts.query, keep_blank_values=True))
    body = body_bytes(request) if request.has_body else b""
    time, date = f"{moment:%Y%m%dT%H%M%SZ}", f"{moment:%Y%m%d}"
    canonical = [
        request.method.upper(),
        quote(parts.path or "/", safe="/-_.~"),
        "&".join(f"{name}={value}" for name, value in pairs),
        f"host:{host or parts.netloc}\nx-amz-date:{time}\n",
        _SIGNED,
        hashlib.sha256(body).hexdigest(),
    ]
    scope = f"{date}/{key.region}/{key.service}/aws4_request"
    digest = hashlib.sha256("\n".join(canonical).encode()).hexdigest()
    secret = reduce(_hmac, (date, key.region, key.service, "aws4_request"), f"AWS4{key.secret}".encode())
    signature = _hmac(secret, f"{_ALGORITHM}\n{time}\n{scope}\n{digest}").hex()
    return f"{_ALGORITHM} Credential={key.key_id}/{scope}, SignedHeaders={_SIGNED}, Signature={signature}"


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def _encoded(text: str) -> str:
    return quote(text, safe="-_.~")
