"""One Dagster and one browser for all tests of the UI: starting them is the largest part of their cost."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.dagster_ui import Browser, DemoApi, Stack, configs, of_customers


@pytest.fixture(scope="package")
def ui_api() -> Iterator[DemoApi]:
    """The API of the UI's tests."""
    with DemoApi() as api:
        assert isinstance(api, DemoApi)
        yield api


@pytest.fixture(scope="package")
def ui_stack(ui_api: DemoApi, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One `nango-dagster dev` for all tests of the UI: starting it is the largest part of their cost."""
    with Stack(tmp_path_factory.mktemp("project"), {**configs(ui_api), **of_customers(ui_api)}) as stack:
        yield stack


@pytest.fixture(scope="package")
def ui_browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all tests of the UI."""
    with Browser(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser
