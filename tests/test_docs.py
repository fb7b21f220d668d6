"""The documentation is true: what it shows is accepted, what it names exists, its links lead somewhere."""

from __future__ import annotations

import ast
import doctest
import importlib
import importlib.util
import json
import pkgutil
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

import nango_dagster
from nango_dagster.settings import Settings
from tests.conftest import ROOT

PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    title: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(*languages: str) -> list[Block]:
    return [block for page in PAGES for block in blocks_of(page) if block.language in languages]


def blocks_of(page: Path) -> Iterator[Block]:
    text = page.read_text()
    for found in re.finditer(r'^( *)```(\w+)(?: title="([^"]+)")?\n(.*?)^\1```$', text, re.M | re.S):
        lines = [line.removeprefix(found.group(1)) for line in found.group(4).splitlines()]
        line = text.count("\n", 0, found.start()) + 1
        yield Block(page, line, found.group(2), found.group(3) or "", "\n".join(lines) + "\n")


def _prose(page: Path) -> str:
    return re.sub(r"^( *)```.*?^\1```$", "", page.read_text(), flags=re.M | re.S)


# Examples


@pytest.mark.parametrize("block", blocks("yaml", "json"), ids=str)
def test_a_data_example_is_well_formed_and_a_sync_in_it_is_valid(block: Block, tmp_path: Path) -> None:
    from nango_dagster.config import read_file

    document = yaml.safe_load(block.text) if block.language == "yaml" else json.loads(block.text)
    if isinstance(document, dict) and "url" in document and not is_file(block):
        file = tmp_path / f"example.{block.language}"
        file.write_text(block.text)
        assert read_file(file)


def is_file(block: Block) -> bool:
    """Whether an example says which file of `sync_configs` it is."""
    return block.title.startswith("sync_configs/")


_WITH_FILES = sorted({block.page for block in blocks("yaml") if is_file(block)})


@pytest.mark.parametrize("page", _WITH_FILES, ids=lambda page: page.name)
def test_the_config_files_of_a_page_are_valid_together(page: Path, tmp_path: Path) -> None:
    from nango_dagster.config import read_dir

    for block in filter(is_file, blocks_of(page)):
        file = tmp_path / block.title
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(block.text)
    configs = read_dir(tmp_path / "sync_configs")
    assert configs.syncs
    assert not configs.errors


@pytest.mark.parametrize("file", sorted((ROOT / "sync_configs").glob("*.y*ml")), ids=lambda file: file.name)
def test_the_syncs_of_the_checkout_are_valid(file: Path) -> None:
    from nango_dagster.config import read_file

    assert read_file(file)


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_what_a_python_example_imports_from_us_exists(block: Block) -> None:
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == nango_dagster.__name__:
            module = importlib.import_module(str(node.module))
            for alias in node.names:
                assert hasattr(module, alias.name), f"{node.module} has no {alias.name}"


@pytest.mark.parametrize("block", [one for one in blocks("python") if "Definitions.merge(" in one.text], ids=str)
def test_a_module_of_definitions_is_loaded_by_dagster(block: Block, tmp_path: Path, settings: Settings) -> None:
    # The question of `dagster -f`, which by itself would start a process for each block.
    from dagster._core.workspace.autodiscovery import loadable_targets_from_python_file

    (tmp_path / "sync_configs").mkdir()
    (tmp_path / "my_definitions.py").write_text(block.text)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        (target,) = loadable_targets_from_python_file(str(tmp_path / "my_definitions.py"), str(tmp_path))
    assert target.attribute == "defs"


def _modules() -> list[str]:
    """Our modules, but for migrations, which only Alembic can import, and the client, which needs a server for it."""
    names = [found.name for found in pkgutil.walk_packages(nango_dagster.__path__, "nango_dagster.")]
    return [
        name for name in names if not re.search(r"\.migrations\.|\.__main__$|\.client\.(nango|[a-z]+_calls)$", name)
    ]


@pytest.mark.parametrize("name", _modules())
def test_the_examples_in_docstrings_are_true(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert result.failed == 0


# Commands


def _commands(page: Path) -> Iterator[list[str]]:
    """The commands on a page: the lines of its bash blocks, and code in its text that begins like one."""
    for block in blocks_of(page):
        if block.language == "bash":
            lines = block.text.replace("\\\n", " ").splitlines()
            yield from (words for line in lines if (words := shlex.split(line, comments=True)))
    for code in re.findall(r"`((?:make|nango-dagster|python -m) [^`]+)`", _prose(page)):
        yield shlex.split(code)


def _command_of(words: list[str]) -> list[str]:
    """Without the variables set for it."""
    return words[1:] and _command_of(words[1:]) if re.match(r"[A-Z_]+=", words[0]) else words


def _make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))


def _sub_commands() -> set[str]:
    from nango_dagster.cli import main

    return set(main.commands)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_commands_of_a_page_exist(page: Path) -> None:
    for words in _commands(page):
        program, *arguments = _command_of(words) or ["true"]
        named = [word for word in arguments if not word.startswith("-") and "=" not in word]
        if program == "make":
            assert set(named) <= _make_targets(), words
        elif program == "nango-dagster":
            assert set(named[:1]) <= _sub_commands() | {"COMMAND"}, words
        elif program == "python" and arguments[:1] == ["-m"]:
            assert importlib.util.find_spec(arguments[1]), words
        else:
            known = {
                ".",
                "cd",
                "createdb",
                "curl",
                "export",
                "git",
                "npm",
                "mkdir",
                "pg_dump",
                "pip",
                "psql",
                "python",
                "python3",
            }
            known |= {"sqlite3", "true"}
            assert program in known or (Path(sys.executable).parent / program).exists(), words


def test_each_make_target_says_what_it_is_for() -> None:
    makefile = (ROOT / "Makefile").read_text()
    described = set(re.findall(r"^([a-z-]+):.*## \S", makefile, re.M))
    assert _make_targets() == described


def test_each_setting_that_a_page_names_is_read() -> None:
    source = (ROOT / "nango_dagster" / "settings.py").read_text()
    # The tests' own; two that a loop reads; one that Nango's own command line reads.
    ours = {"NANGO_TEST_DB_URL", "NANGO_DB_USER", "NANGO_DB_NAME", "NANGO_HOSTPORT"}
    named = {
        name
        for page in PAGES
        for name in re.findall(r"\b(?:NANGO|PIZZLY)_[A-Z_]*[A-Z]\b", page.read_text())
        if not name.startswith("NANGO_ENV_")
    }
    assert {name for name in named - ours if f'"{name}"' not in source} == set()


def test_the_readme_is_short_and_its_first_link_is_the_tutorial() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 120
    links = re.findall(r"\]\(([^)]+)\)", "\n".join(lines))
    assert links[0] == "docs/tutorial/first-sync.md"
    assert sum(link.endswith(".png") for link in links) == 2


# Links


def _anchors(page: Path) -> set[str]:
    """The names that GitHub gives to headings."""
    headings = re.findall(r"^#+ (.+)$", _prose(page), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_relative_links_of_a_page_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"!?\[[^\]]*\]\(([^)\s]+)\)", _prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), target
        assert file.is_relative_to(ROOT), target
        assert not anchor or anchor in _anchors(file), target
