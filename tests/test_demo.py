"""The sample API answers like the two APIs whose form it has, and the demo reads it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nango_dagster.auth import Access
from nango_dagster.cli.ports import answers
from nango_dagster.config import read_dir
from nango_dagster.fetch import Fetch
from nango_dagster.sample_api.server import answer, serve
from nango_dagster.templates import env_variables
from tests.apis import free_port
from tests.conftest import ROOT
from tests.executions import until

IGNORE_CTRL_C = (
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serve() as base:
        yield base


def get(url: str) -> tuple[Any, str | None]:
    with urllib.request.urlopen(url) as response:
        return json.load(response), response.headers["Link"]


def test_all_pokemon_are_reached_by_following_next(url: str) -> None:
    seen: list[str] = []
    page: str | None = f"{url}/api/v2/pokemon"
    while page:
        body, _ = get(page)
        assert body["count"] == 251
        seen += [row["name"] for row in body["results"]]
        page = body["next"]
    assert (seen[0], seen[24], seen[150], seen[250], len(set(seen))) == (
        "bulbasaur",
        "pikachu",
        "mew",
        "celebi",
        251,
    )


def test_a_pokemons_url_does_not_depend_on_where_the_demo_is_served(url: str) -> None:
    body, _ = get(f"{url}/api/v2/pokemon?offset=132&limit=1")
    assert body["results"] == [{"name": "eevee", "url": "https://pokeapi.co/api/v2/pokemon/133/"}]
    assert body["previous"] == f"{url}/api/v2/pokemon?offset=131&limit=1"


@pytest.mark.parametrize(("page", "rels"), [(1, "next last"), (2, "prev next last first"), (3, "prev first")])
def test_the_link_header_names_the_pages_around(page: int, rels: str) -> None:
    found = answer("http://demo", f"/repos/NangoHQ/nango/issues?state=all&per_page=20&page={page}")
    links = {rel: target for target, rel in re.findall(r'<([^>]+)>; rel="(\w+)"', found.headers["Link"])}
    assert list(links) == rels.split()
    if "next" in links:
        assert links["next"] == f"http://demo/repos/NangoHQ/nango/issues?state=all&per_page=20&page={page + 1}"


def test_issues_are_the_open_ones_unless_asked_otherwise() -> None:
    states = {row["state"] for row in answer("http://demo", "/repos/NangoHQ/nango/issues").body}
    assert states == {"open"}


def test_a_list_that_fits_on_a_page_has_no_links() -> None:
    assert not answer("http://demo", "/repos/NangoHQ/nango-sync/issues?state=all&per_page=100").headers


def test_what_there_is_not_is_a_404(url: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as error:
        get(f"{url}/repos/nobody/nothing/issues")
    assert error.value.code == 404
    error.value.close()


def test_a_customers_key_selects_contacts_that_can_be_changed_and_deleted(url: str) -> None:
    def send(method: str, path: str, key: str = "acme-key", body: bytes | None = None) -> Any:
        request = urllib.request.Request(f"{url}/crm/contacts{path}", body, {"Authorization": f"Bearer {key}"})
        request.method = method
        with urllib.request.urlopen(request) as response:
            return json.load(response)

    first = send("GET", "?limit=3")
    assert [contact["name"] for contact in first["contacts"]] == ["Ada", "Alan", "Grace"]
    assert send("PATCH", "/4", body=b'{"city": "Paris"}') == {"id": 4, "name": "Linus", "city": "Paris"}
    assert send("DELETE", "/2")["name"] == "Alan"
    assert send("GET", f"?limit=3&after={first['next']}") == {
        "contacts": [{"id": 4, "name": "Linus", "city": "Paris"}],
        "next": None,
    }
    assert len(send("GET", "", key="globex-key")["contacts"]) == 3
    for path, key, status in (("/2", "acme-key", 404), ("/1", "a wrong key", 401)):
        with pytest.raises(urllib.error.HTTPError) as error:
            send("DELETE", path, key)
        assert error.value.code == status
        error.value.close()


def test_the_syncs_of_the_checkout_read_all_rows_of_the_demo(url: str) -> None:
    configs = read_dir(ROOT / "sync_configs")
    assert configs.errors == ()
    read = {}
    for sync in configs.syncs:
        fetch = Fetch(sync, access=Access(sync, env_variables({"DEMO_API_URL": url})))
        read[sync.name] = sum(len(page.records) for page in fetch)
        assert fetch.stop is not None and fetch.stop.complete
    assert read == {"pokemon": 251, "github-issues": 54}


@pytest.mark.acceptance
def test_make_run_ends_with_real_rows_and_a_second_time_without_new_ones(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "sync_configs", tmp_path / "sync_configs")
    command = [sys.executable, "-m", "nango_dagster.demo"]
    env = {**os.environ, "COLUMNS": "200"}
    first = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "pokemon: 251 rows" in first.stdout and "abra" in first.stdout
    assert "github-issues: 54 rows" in first.stdout
    assert (tmp_path / ".nango" / "nango.db").exists()
    assert (tmp_path / ".nango" / "dagster" / "dagster.yaml").exists()
    again = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "pokemon: 251 rows" in again.stdout


@pytest.mark.acceptance
@pytest.mark.long
def test_the_ui_of_the_demo_serves_its_port_and_ends_on_sigterm_in_the_background(tmp_path: Path) -> None:
    """As `make ui PORT=... &` starts it: a shell's `&` makes the process ignore Ctrl-C."""
    shutil.copytree(ROOT / "sync_configs", tmp_path / "sync_configs")
    port = free_port()
    command = [
        sys.executable,
        "-c",
        IGNORE_CTRL_C,
        sys.executable,
        "-m",
        "nango_dagster.demo",
        "--ui",
        "--port",
        str(port),
    ]
    with (tmp_path / "log").open("w") as log:
        env = {**os.environ, "NANGO_PORT": str(free_port())}
        process = subprocess.Popen(command, cwd=tmp_path, env=env, stdout=log, stderr=log, start_new_session=True)
    try:
        until(lambda: answers("127.0.0.1", port) or process.poll() is not None, 200, "the Dagster UI answers")
        assert process.poll() is None, (tmp_path / "log").read_text()
        process.terminate()
        assert process.wait(timeout=90) == 0, (tmp_path / "log").read_text()
        assert not answers("127.0.0.1", port)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
