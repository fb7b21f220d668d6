"""The instance settings that we hand out are loaded by Dagster and do what their comments say."""

from __future__ import annotations

import shutil
from importlib.resources import files
from pathlib import Path

import dagster as dg
import pytest

from nango_dagster.dagster_yaml import dagster_home
from nango_dagster.settings import Settings


@pytest.mark.parametrize("storage", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def test_dagster_stores_a_run_with_our_instance_settings(
    storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    shutil.copy(str(files("nango_dagster.dagster_yaml") / f"dagster.{storage}.yaml"), tmp_path / "dagster.yaml")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    if storage == "postgresql":
        monkeypatch.setenv("DAGSTER_POSTGRES_URL", request.getfixturevalue("dagster_database"))

    @dg.asset
    def rows() -> dg.MaterializeResult[None]:
        return dg.MaterializeResult(metadata={"rows": 3})

    with dg.DagsterInstance.get() as instance:
        assert dg.materialize([rows], instance=instance).success
        event = instance.get_latest_materialization_event(dg.AssetKey("rows"))
        assert event is not None and event.asset_materialization is not None
        assert event.asset_materialization.metadata["rows"].value == 3
        assert instance.telemetry_enabled is False
        assert instance.nux_enabled is False
        assert instance.run_monitoring_max_runtime_seconds == 86400
        assert instance.run_monitoring_start_timeout_seconds == 600


def test_without_a_dagster_home_there_is_one_below_nango_home(tmp_path: Path) -> None:
    settings = Settings.from_env({"NANGO_HOME": str(tmp_path / "here")}, dotenv=None)
    home = dagster_home(settings)
    assert home == tmp_path / "here" / "dagster"
    assert "telemetry" in (home / "dagster.yaml").read_text()


def test_a_dagster_yaml_that_is_there_is_left_alone(tmp_path: Path) -> None:
    settings = Settings.from_env({"NANGO_HOME": str(tmp_path)}, dotenv=None)
    (dagster_home(settings) / "dagster.yaml").write_text("telemetry: { enabled: true }\n")
    assert (dagster_home(settings) / "dagster.yaml").read_text() == "telemetry: { enabled: true }\n"


def test_a_dagster_home_that_the_user_named_is_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "theirs"))
    settings = Settings.from_env({"NANGO_HOME": str(tmp_path)}, dotenv=None)
    assert dagster_home(settings) == tmp_path / "theirs"
    assert not (tmp_path / "theirs").exists()
