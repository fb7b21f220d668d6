"""The functions of somebody's own that a config names."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

from ..errors import ConfigError


def load_function(name: str) -> Callable[[Any], Any]:
    """The function that `module:function` names; modules beside the working directory are found.

    Raises ConfigError when there is none.
    """
    module_name, _, function_name = name.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"transform: {name!r} cannot be loaded: {error}.") from None
    if not callable(found):
        raise ConfigError(f"transform: {name!r} is a {type(found).__name__}; wanted a function.")
    function: Callable[[Any], Any] = found
    return function
