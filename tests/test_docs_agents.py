"""The files for coding agents are current, and name only what exists."""

from __future__ import annotations

import re

from nango_dagster.config import Sync
from tests.agent_docs import DOCS, LLMS, SKILL, llms, skill

HOW = "Run `python -m tests.agent_docs` to write it again."


def test_llms_txt_is_current_and_each_of_its_links_leads_to_a_page() -> None:
    assert LLMS.read_text(encoding="utf-8") == llms(), HOW
    pages = re.findall(r"\]\(([^)]+)\)", llms())
    assert len(pages) > 15 and [name for name in pages if not (DOCS / name).exists()] == []


def test_the_skill_is_current_and_has_every_field_of_a_sync() -> None:
    assert SKILL.read_text(encoding="utf-8") == skill(), HOW
    assert [name for name in Sync.model_fields if f"| `{name}` |" not in skill()] == []
