"""A sync becomes an iterator of pages."""

from .pages import Access, Fetch, Page, Stop
from .requests import first_request, policy_of

__all__ = ["Access", "Fetch", "Page", "Stop", "first_request", "policy_of"]
