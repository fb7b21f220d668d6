"""Nango's HTTP view of the store; the only home of the web framework."""

from .app import create_app
from .serving import serve

__all__ = ["create_app", "serve"]
