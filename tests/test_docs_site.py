"""The documentation site builds without a warning, and every link in it leads somewhere."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.acceptance
SOURCES = ("zensical.toml", "CHANGELOG.md", "docs", "nango_dagster", "tests/doctest_fences.py")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built in a copy of its sources."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in SOURCES:
        source, copy = ROOT / name, folder / name
        copy.parent.mkdir(exist_ok=True)
        shutil.copytree(source, copy) if source.is_dir() else shutil.copy(source, copy)
    zensical = Path(sys.executable).with_name("zensical")
    built = subprocess.run([zensical, "build", "--strict"], cwd=folder, capture_output=True, text=True, timeout=300)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder / "site"


def test_the_site_contains_every_page_and_each_of_its_links_leads_to_a_file(site: Path) -> None:
    pages = {page.relative_to(ROOT / "docs").with_suffix(".html") for page in (ROOT / "docs").rglob("*.md")}
    assert pages <= {page.relative_to(site) for page in site.rglob("*.html")}
    for page in site.rglob("*.html"):
        for target in re.findall(r'(?:href|src)="?([^"#?\s>]+)', page.read_text(encoding="utf-8")):
            if not re.match(r"[a-z]+:|/", target):
                assert (page.parent / unquote(target)).exists(), f"{page.relative_to(site)}: {target}"


def test_the_site_has_a_search_index_a_dark_mode_and_the_docstrings(site: Path) -> None:
    assert "build_definitions" in (site / "search.json").read_text()
    assert 'data-md-color-scheme="slate"' in (site / "index.html").read_text()
    python_api = (site / "reference" / "python-api.html").read_text()
    assert 'id="nango_dagster.defs.build_definitions"' in python_api
    assert 'id="nango_dagster.client.Nango.list_records"' in python_api


def test_the_navigation_names_every_page_once() -> None:
    named = re.findall(r'"([\w/-]+\.md)"', (ROOT / "zensical.toml").read_text())
    assert sorted(named) == sorted(str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md"))
