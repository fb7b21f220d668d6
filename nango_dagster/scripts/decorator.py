"""`@sync`: a Python function that reads records, with the settings of a sync."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, overload

from ..config.scripts import MARK
from ..errors import ConfigError
from ..models import schema_of

Function = TypeVar("Function", bound=Callable[..., Any])


@overload
def sync(function: Function, /) -> Function: ...
@overload
def sync(
    *,
    model: Any = None,
    models: Mapping[str, Any] | None = None,
    metadata: Any = None,
    checkpoint: Any = None,
    **fields: Any,
) -> Callable[[Function], Function]: ...
def sync(
    function: Function | None = None,
    *,
    model: Any = None,
    models: Mapping[str, Any] | None = None,
    metadata: Any = None,
    checkpoint: Any = None,
    **fields: Any,
) -> Any:
    """Declare a sync script: a function of `nango` in a file of the folder of configs.

    `fields` are those of a YAML config that describe no request, such as `integration`, `frequency`, `unique_key`
    ("id" by default), `track_deletes`, `mapped_table` or `max_duration`. `name` is that of the function by default,
    and `description` its docstring. `model` is the model of its records: a pydantic model, a dataclass, a msgspec
    Struct, a TypedDict, or only its name. `models` are several by their names, as classes or JSON Schemas.

    `metadata` is the model of the connection's metadata, and `checkpoint` that of the checkpoint, each as a class or a
    JSON Schema with `properties`: `metadata_model` and `checkpoint_model` of the config. A dictionary without
    `properties` is the config's `metadata`, whose values are columns of every row.

    The function stays as it is: it can be called in a test with any object in place of `nango`.

    >>> @sync(integration="github", frequency="every 15 minutes")
    ... def github_issues(nango):
    ...     yield {"id": 1}
    >>> list(github_issues(None))
    [{'id': 1}]
    """

    def decorate(decorated: Function) -> Function:
        if not callable(decorated):
            raise ConfigError("@sync is for a function of one argument, nango.")
        document: dict[str, Any] = {"name": decorated.__name__, **fields}
        description = (decorated.__doc__ or "").strip()
        if description:
            document.setdefault("description", " ".join(description.split()))
        if models is not None:
            document["models"] = {name: schema_of(definition) for name, definition in models.items()}
        if isinstance(model, str):
            document["model"] = model
        elif model is not None:
            document["models"] = {model.__name__: schema_of(model), **document.get("models", {})}
            document["model"] = model.__name__
        if isinstance(metadata, Mapping) and "properties" not in metadata:
            document["metadata"] = dict(metadata)
        elif metadata is not None:
            document["metadata_model"] = schema_of(metadata)
        if checkpoint is not None:
            document["checkpoint_model"] = schema_of(checkpoint)
        setattr(decorated, MARK, document)
        return decorated

    return decorate if function is None else decorate(function)
