"""A connection's credentials, from the store, Pizzly or a Nango server, become what a request needs."""

from .access import Access, CredentialSource, StaticCredentials
from .kinds import OVER_HTTP, Credentials, check_credentials, signed
from .oauth2 import OAuth2, TokenStore
from .servers import NangoServer, Pizzly, ServerConnection

__all__ = [
    "OVER_HTTP",
    "Access",
    "CredentialSource",
    "Credentials",
    "NangoServer",
    "OAuth2",
    "Pizzly",
    "ServerConnection",
    "StaticCredentials",
    "TokenStore",
    "check_credentials",
    "signed",
]
