"""A sync becomes an iterator of pages."""

from .pages import Fetch, Page, Stop
from .requests import first_request, policy_of
from .sending import Access

__all__ = ["Access", "Fetch", "Page", "Stop", "first_request", "policy_of"]
