"""Load the Python functions of users that a config names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..config import scripts
from ..errors import ConfigError


def load_function(name: str) -> Callable[[Any], Any]:
    """Import the function `module:function`, also from the working directory.

    Raises ConfigError when it cannot be imported or is no function.
    """
    module_name, _, function_name = name.partition(":")
    try:
        function = getattr(scripts.import_module(module_name), function_name)
    except Exception as error:  # whatever the user's module raises
        raise ConfigError(f"transform: {name!r} cannot be loaded: {error}.") from None
    if not callable(function):
        raise ConfigError(f"transform: {name!r} is a {type(function).__name__}; wanted a function.")
    transform: Callable[[Any], Any] = function
    return transform
