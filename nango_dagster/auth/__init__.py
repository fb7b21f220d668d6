"""A connection's credentials, from the store, Pizzly or a Nango server, become what a request needs."""

from .access import Access, Source, Stored
from .kinds import OVER_HTTP, Credentials, check_credentials
from .oauth2 import Keeper, OAuth2
from .servers import NangoServer, Pizzly

__all__ = [
    "OVER_HTTP",
    "Access",
    "Credentials",
    "Keeper",
    "NangoServer",
    "OAuth2",
    "Pizzly",
    "Source",
    "Stored",
    "check_credentials",
]
