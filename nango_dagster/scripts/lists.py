"""Lists that a script describes with the paging fields of YAML configs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..config import from_document
from ..config.sync import Sync
from ..errors import ScriptError
from ..http import query_pairs
from .calls import Call
from .sending import Api

_ESCAPED: Final = "$${"
_ANY_PAGING: Final = ("paging_limit", "paging_limit_request_path")
_OF_LISTS: Final = frozenset({
    "format", "response_path", "records", "record_key_field", "missing_is_empty", "responses", "timeout", "retries",
    "rate_limit", "max_page_bytes", "max_page_records", "unique_key",
})  # fmt: skip
_FIELDS: Final = frozenset(
    {name for name in Sync.model_fields if name.startswith("paging_")}
    | {"response_path", "records", "record_key_field", "missing_is_empty", "responses", "format", "next_request"}
    | {"max_pages", "max_total", "retries", "timeout", "max_page_bytes", "max_page_records"}
)
"""The fields of a config that describe a list; a script gives them to `paginate`."""


def list_of(sync: Sync, api: Api, call: Call, fields: Mapping[str, Any]) -> Sync:
    """The list of a call as a config; the script's own texts are no templates. Raises ScriptError and ConfigError."""
    base = call.base_url or api.base_url or ""
    endpoint = call.path.replace("${", _ESCAPED)
    url = endpoint if call.is_absolute else f"{base.rstrip('/')}/{endpoint.lstrip('/')}"
    own = {name.lower() for name in call.header_texts}
    headers = {name: value for name, value in api.headers.items() if name.lower() not in own}
    is_home = not call.is_absolute and call.base_url is None  # the headers of the API go to its base URL alone
    document = {
        **{name: value for name, value in sync.document().items() if name in _OF_LISTS},
        "name": sync.name,
        "url": url,
        "method": call.method.upper(),
        "headers": {**(headers if is_home else {}), **_escaped(call.header_texts)},
        "query_params": {**(dict(api.query_params) if is_home else {}), **_escaped(_by_name(call))},
        **({"body": _escaped(call.data)} if call.data is not None else {}),
        "integration": sync.integration,
        "allowed_origins": sync.allowed_origins,
    }
    paging = {name: value for name, value in sync.document().items() if name.startswith("paging_")}
    if any(name.startswith("paging_") and name not in _ANY_PAGING for name in fields):
        paging = {name: value for name, value in paging.items() if name in _ANY_PAGING}
    unknown = [name for name in fields if name not in _FIELDS]
    if unknown:
        raise ScriptError(
            f"{sync.display_name}: paginate has no option {unknown[0]}; wanted the paging fields of configs, such "
            "as paging_page_request_path, or Nango's as paginate={...}."
        )
    return from_document({name: value for name, value in {**document, **paging, **fields}.items() if value != ""})


def _by_name(call: Call) -> dict[str, Any]:
    if isinstance(call.params, str) or call.params is None:
        return {}
    return {name: value for name, value in call.params.items() if query_pairs({name: value})}


def _escaped(value: Any) -> Any:
    """A value whose texts are no templates."""
    if isinstance(value, str):
        return value.replace("${", _ESCAPED)
    if isinstance(value, Mapping):
        return {name: _escaped(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_escaped(item) for item in value]
    return value
