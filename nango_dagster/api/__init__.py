"""Nango's HTTP view of the store; the only home of the web framework."""

from .app import create_app
from .background import CombinedWork
from .reload import Reloader
from .serving import serve

__all__ = ["CombinedWork", "Reloader", "create_app", "serve"]
