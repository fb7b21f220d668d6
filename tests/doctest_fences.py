"""An extension of Griffe for the documentation site: the doctests of docstrings become code blocks of Markdown."""

from __future__ import annotations

import re
from typing import Any

import griffe

_DOCTEST = re.compile(r"^>>> .*?(?=\n\s*\n|\Z)", re.M | re.S)


class DoctestFences(griffe.Extension):
    """Puts each doctest of a docstring into a fence; without one, Markdown reads `>>>` as a quotation."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Change the docstring of an object that Griffe has loaded."""
        if obj.docstring is not None:
            obj.docstring.value = _DOCTEST.sub(r"```pycon\n\g<0>\n```", obj.docstring.value)
