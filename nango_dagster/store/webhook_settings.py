"""Which webhooks this deployment sends, and where to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..settings import Settings

Target = Literal["primary", "secondary"]


@dataclass(frozen=True)
class WebhookSettings:
    """The webhook URLs that the settings have, without the URLs themselves, and the events that are announced."""

    targets: tuple[Target, ...] = ()
    events: frozenset[str] = frozenset()

    @classmethod
    def of(cls, settings: Settings) -> WebhookSettings:
        """The webhook settings of a deployment."""
        urls: dict[Target, str | None] = {
            "primary": settings.webhook_url,
            "secondary": settings.webhook_url_secondary,
        }
        return cls(tuple(target for target, url in urls.items() if url), settings.webhook_on)
