"""A sync becomes an iterator of pages."""

from .pages import Fetch, Page, Place
from .progress import Stop
from .requests import first_request, opening_request, policy_of
from .sending import Access

__all__ = ["Access", "Fetch", "Page", "Place", "Stop", "first_request", "opening_request", "policy_of"]
