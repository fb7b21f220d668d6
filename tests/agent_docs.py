"""Write docs/llms.txt and the skill for coding agents from the pages: `python -m tests.agent_docs`."""

from __future__ import annotations

import re
from pathlib import Path

from tests.conftest import ROOT

DOCS = ROOT / "docs"
LLMS = DOCS / "llms.txt"
SKILL = ROOT / "skills" / "nango-dagster" / "SKILL.md"
SKILL_HEAD = """\
---
name: nango-dagster
description: >-
  Write and check syncs of nango_dagster: YAML files that keep lists of external APIs up to date in PostgreSQL or SQLite
  as Dagster assets. Use it to add an API, choose paging fields, add customers, or find the cause of a failed sync.
---

<!-- Generated from the documentation by `python -m tests.agent_docs`; a test keeps it current. -->

# Write syncs for nango_dagster

Work in this order, and fix each error before the next step. Every command takes `--json`.

1. Read one answer of the API: the place of the records, the field that identifies a record, the way to the next page.
2. Write `sync_configs/NAME.yaml` with the fields below. Use no field that is not in the table.
3. `nango-dagster validate`: each problem has a file, a line, the value found and the values allowed.
4. `nango-dagster dry-run NAME --pages 3`: fetches without storing. Check the records, the columns and the next request.
5. `nango-dagster run NAME`: one execution. For the customers of an integration, add connections and use `trigger`.
6. `nango-dagster status NAME`: the state, and the sentence that says why an execution failed.

Never write a secret into a config: use `${env.NAME}`, which reads the variable `NANGO_ENV_NAME`, or the credentials of
a connection. Do not change the tables whose names begin with `_nango_`.
"""


def llms() -> str:
    """The contents of docs/llms.txt: each page of the navigation with its first sentence."""
    lines = ["# nango_dagster", "", f"> {_first_sentence(DOCS / 'index.md')}"]
    navigation = (ROOT / "zensical.toml").read_text(encoding="utf-8").partition("nav = [")[2].partition("\n]\n")[0]
    for title, name in re.findall(r'\{ "([\w-]+)" = \[|"([\w/-]+\.md)",', navigation):
        if title:
            lines += ["", f"## {title}", ""]
        elif name != "explanation/changelog.md":  # it includes another file
            page = DOCS / name
            lines.append(f"- [{_title(page)}]({name}): {_first_sentence(page)}")
    return "\n".join(lines) + "\n"


def skill() -> str:
    """The contents of the skill: the workflow, and the parts of the pages that a config needs."""
    config, paging = DOCS / "reference" / "config.md", DOCS / "how-to" / "paging.md"
    fields = re.findall(r"^\| (?:field|---|`).*$", config.read_text(encoding="utf-8").partition("\n## ")[0], re.M)
    commands = re.findall(r"^\| \[`.*$", (DOCS / "reference" / "cli.md").read_text(encoding="utf-8"), re.M)
    parts = [
        SKILL_HEAD,
        "## Fields of a sync\n\n" + "\n".join(fields) + "\n",
        *(_section(config, heading) for heading in ("Records: what the answer holds", "Answers: what they mean")),
        _section(config, "Paging: how a list goes on and ends"),
        "## Examples of paging\n\n"
        + _deeper(paging.read_text(encoding="utf-8").partition("\n## ")[2].partition("\n## Check it")[0]),
        _section(DOCS / "reference" / "connections.md", "Where they go", level=3),
        "## Commands\n\n| Command | Effect |\n|---|---|\n" + "\n".join(commands) + "\n",
    ]
    return _without_local_links("\n".join(parts))


def _title(page: Path) -> str:
    return page.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")


def _first_sentence(page: Path) -> str:
    """The first sentence of the first paragraph, without Markdown's links."""
    paragraphs = re.split(r"\n\s*\n", page.read_text(encoding="utf-8"))
    text = next(part for part in paragraphs if not part.startswith(("#", "<!--", "|", "!", "```")))
    sentence = re.match(r".+?[.:](?=\s|$)", " ".join(text.split()))
    assert sentence is not None, page
    return re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", sentence[0].removesuffix(":").removesuffix(".") + ".")


def _section(page: Path, heading: str, *, level: int = 2) -> str:
    marks = "#" * level
    text = page.read_text(encoding="utf-8").partition(f"\n{marks} {heading}\n")[2]
    assert text, f"{page.name} has no section {heading}"
    return f"## {heading}\n" + re.split(rf"^#{{1,{level}}} ", text, flags=re.M)[0]


def _deeper(text: str) -> str:
    """A section and those after it, one level deeper."""
    return re.sub(r"^## ", "### ", "## " + text, flags=re.M) + "\n"


def _without_local_links(text: str) -> str:
    """The text of each link in place of the link; the pages are not beside the skill."""
    return re.sub(r"\[([^\]]+)\]\((?![a-z]+:)[^)]+\)", r"\1", text)


def main() -> None:
    """Write both files."""
    SKILL.parent.mkdir(parents=True, exist_ok=True)
    LLMS.write_text(llms(), encoding="utf-8")
    SKILL.write_text(skill(), encoding="utf-8")


if __name__ == "__main__":
    main()
