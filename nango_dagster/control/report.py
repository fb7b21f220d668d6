"""The report of an operation, for people and for machines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

SOON = "within seconds where `nango-dagster dev` or a Dagster daemon is up"


@dataclass(frozen=True)
class Report:
    """The result of an operation and the next step as sentences, and the result as a document for machines."""

    sentence: str
    next_step: str
    document: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.sentence} {self.next_step}".strip()

    @property
    def sentences(self) -> list[str]:
        """The sentences that are not empty."""
        return [sentence for sentence in (self.sentence, self.next_step) if sentence]
