"""A sync: the fields of its config, and the values that follow from them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Literal

from nango_dagster.config.failure_limit import is_reached
from nango_dagster.config.for_each import list_fields
from nango_dagster.config.frequency import every, interval_of
from nango_dagster.config.schedule import Cron, Interval, ShortInterval
from nango_dagster.config.sync_fields import DEFAULT_FREQUENCY, SyncFields
from nango_dagster.models import RecordModel


class Sync(SyncFields):
    """A sync: the request for the records, the paging, the schedule and the table.

    Made by :func:`nango_dagster.config.read_dir` or :func:`~nango_dagster.config.from_body`, which also check
    how fields fit together.

    >>> sync = Sync(name="pokemon", url="https://pokeapi.co/api/v2/pokemon", unique_key="name")
    >>> sync.mode, sync.model, sync.method
    ('upsert', 'Pokemon', 'GET')
    """

    def model_post_init(self, context: Any) -> None:
        """Give the model its default name."""
        if not self.model:
            object.__setattr__(self, "model", next(iter(self.models), pascal_case(self.name)))

    @property
    def unnamed(self) -> bool:
        """Whether nobody named it yet: a posted sync without `name` and `friendly_name`."""
        return "name" not in self.model_fields_set

    def with_name(self, name: str) -> Sync:
        """The sync under another name.

        >>> Sync(url="https://api.example.com/items").with_name("sync-7").model
        'Sync7'
        """
        return Sync(**{**self._given(), "name": name})

    @property
    def display_name(self) -> str:
        """The name for people."""
        return self.friendly_name or self.name

    @property
    def templates(self) -> list[Any]:
        """The fields whose texts may hold `${...}` placeholders."""
        following = None if self.next_request is None else self.next_request.model_dump(exclude_none=True)
        return [self.url, self.base_url, self.headers, self.query_params, self.body, following]

    @property
    def urls(self) -> list[str]:
        """The URLs that it asks by itself; for a script the base URL of its requests."""
        if self.script is not None:
            return [self.base_url] if self.base_url else []
        return [self.url] + ([self.next_request.url] if self.next_request and self.next_request.url else [])

    @property
    def script_language(self) -> Literal["python", "typescript"] | None:
        """The language of `script`: the name of a TypeScript file ends with a hash."""
        if self.script is None:
            return None
        return "typescript" if "@" in self.script else "python"

    @property
    def address(self) -> str:
        """The URL for people; it may hold secrets. For a script its base URL, empty where it has none."""
        return self.url or self.base_url or ""

    @property
    def key_fields(self) -> tuple[str, ...]:
        """The paths of `unique_key`; none where there is none.

        >>> Sync(url="https://api.example.com/insights", unique_key=["ad_id", "date"]).key_fields
        ('ad_id', 'date')
        """
        if self.unique_key is None:
            return ()
        return (self.unique_key,) if isinstance(self.unique_key, str) else tuple(self.unique_key)

    @property
    def key_name(self) -> str | None:
        """The `unique_key` as one text, which the store keeps; several fields are joined by a comma."""
        return ", ".join(self.key_fields) or None

    @property
    def record_model(self) -> RecordModel | None:
        """The declared fields of its records; None where `models` does not name them."""
        schema = self.models.get(self.model)
        return None if schema is None else RecordModel(self.model, schema)

    @property
    def mapped_model(self) -> RecordModel | None:
        """The model that the mapped table has the columns of; None with a `transform`, which makes other rows."""
        return self.record_model if self.transform is None else None

    @property
    def mode(self) -> Literal["upsert", "overwrite"]:
        """The effect of an execution on stored rows: add and update, or replace."""
        return "upsert" if self.unique_key else "overwrite"

    @property
    def partitioned(self) -> bool:
        """Whether it reads every connection of an integration, rather than one account."""
        return self.integration is not None

    @property
    def integration_key(self) -> str:
        """The integration its rows are kept under."""
        return self.integration or self.pizzly_provider_config_key or "default"

    @property
    def connection_key(self) -> str:
        """The connection its rows are kept under when it is not partitioned."""
        return self.pizzly_connection_id or "default"

    @property
    def interval(self) -> timedelta | None:
        """The time between two executions; None with `cron`."""
        return None if self.cron else interval_of(self.frequency or DEFAULT_FREQUENCY)

    @property
    def schedule_text(self) -> str:
        """When it runs, in the words of configs.

        >>> Sync(name="items", url="https://api.example.com/items", frequency="120 min").schedule_text
        'every 2 hours'
        """
        return f"{self.cron} {self.timezone or ''}".strip() if self.interval is None else every(self.interval)

    @property
    def schedule(self) -> Interval | ShortInterval | Cron:
        """Its slots, and the cron string that ticks at every one of them."""
        if self.interval is None:
            return Cron(self.cron or "", self.timezone or "UTC")
        minutes, rest = divmod(self.interval, timedelta(minutes=1))
        if rest:
            return ShortInterval(round(self.interval.total_seconds()), self.name)
        return Interval(minutes, self.name)

    @property
    def cron_schedule(self) -> str:
        """The cron string of its Dagster schedule."""
        return self.schedule.cron

    @property
    def cron_timezone(self) -> str:
        """The time zone that `cron_schedule` is meant in."""
        return self.schedule.timezone

    def run_fails(self, failed: int, executed: int) -> bool:
        """Whether a run fails in which `failed` of `executed` connections failed.

        >>> Sync(name="items", url="https://api.example.com/items", fail_run_when="5%").run_fails(20, 500)
        False
        """
        return is_reached(self.fail_run_when, failed, executed)

    def latest_slot(self, at: datetime) -> datetime:
        """The last slot that is not after a moment, in UTC."""
        return self.schedule.latest(at)

    def next_slot(self, after: datetime) -> datetime:
        """The first slot after a moment, in UTC."""
        return self.schedule.next(after)

    def mapping_version(self) -> str:
        """Changes when the rows of the mapped table have to be made again."""
        parts = {"mapped_table", "mapping", "metadata", "transform", "auto_mapping"}
        version: dict[str, Any] = self.model_dump(mode="json", include=parts)
        if self.mapped_model is not None:
            version["model"] = [(field.steps, field.kind) for field in self.mapped_model.fields]
            version["parent"] = self.for_each.field if self.for_each else None
        return _digest(version)

    def list_version(self, values: Mapping[str, Any]) -> str:
        """Changes when the request, its constant values or the reading of its answers do: all lists are read again."""
        return _digest({"fields": list_fields(self.document()), "values": values})

    def document(self) -> dict[str, Any]:
        """The config as JSON, with the documented names and without defaults.

        >>> Sync(name="items", url="https://api.example.com/items", frequency="every day").document()
        {'name': 'items', 'url': 'https://api.example.com/items', 'frequency': 1440}
        """
        return self.model_dump(mode="json", by_alias=True, include=set(self._given()), exclude_defaults=True)

    def fingerprint(self) -> str:
        """Changes when anything about the sync does."""
        return _digest(self.document())

    def _given(self) -> dict[str, Any]:
        """The fields that differ from their defaults, name and model included where they were given."""
        return {
            name: getattr(self, name)
            for name, field in type(self).model_fields.items()
            if name in self.model_fields_set and getattr(self, name) not in (field.default, *_NO_URL.get(name, ()))
        }


_NO_URL = {"url": ("",)}  # beside a script


def slug(friendly_name: str) -> str:
    """A name made from a name for people; empty where nothing of it can stand in a name.

    >>> slug("My Sync (v2)")
    'my-sync-v2'
    """
    return re.sub("[^a-z0-9_-]+", "-", friendly_name.lower()).strip("-")[:255]


def pascal_case(name: str) -> str:
    """The default model of a name.

    >>> pascal_case("github-issues"), pascal_case("2024_orders"), pascal_case("x")
    ('GithubIssues', 'Model2024Orders', 'ModelX')
    """
    model = "".join(word[:1].upper() + word[1:] for word in re.split("[_-]+", name))
    return (model if re.match("[A-Z].", model) else f"Model{model}")[:255]


def _digest(document: Mapping[str, Any]) -> str:
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
