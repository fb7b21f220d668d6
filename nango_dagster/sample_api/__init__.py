"""A small API with real data in the package: the first sync of `init`, and the demo, need no network."""

from .server import serve as serve
