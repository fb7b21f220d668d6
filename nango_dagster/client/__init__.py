"""The Python client of the HTTP API, for programs that read what syncs store and steer them."""

from .calls import NotFound, TooManyRequests
from .nango import Nango
from .reading import Records

__all__ = ["Nango", "NotFound", "Records", "TooManyRequests"]
