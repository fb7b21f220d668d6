"""The cost of loading the definitions of many syncs, compared with bare Dagster with as many objects.

`python -m benchmarks.definitions` prints CPU seconds of building, resolving and taking the snapshot that the
webserver and the daemon get of it, medians of several processes each. With `--validate` it prints those of
`dagster definitions validate`, its start and imports included.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any


def main() -> None:
    """Measure both, in turns, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.definitions", description=main.__doc__)
    parser.add_argument("--syncs", default="300,1000", help="how many, separated by commas")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--validate", action="store_true", help="measure `dagster definitions validate`")
    wanted = parser.parse_args()
    counts = [int(count) for count in wanted.syncs.split(",")]
    if wanted.validate:
        _print_validation(counts, wanted.rounds)
        return
    print(f"{'syncs':>6} {'':12} {'CPU s':>7} {'of it: build':>13} {'resolve':>8} {'snapshot':>9} {'x bare':>7}")
    for count in counts:
        measured: dict[str, list[dict[str, float]]] = {"bare": [], "nango": []}
        with tempfile.TemporaryDirectory() as folder:
            _write_configs(Path(folder), count)
            for _ in range(wanted.rounds):
                for name, times in measured.items():
                    times.append(_in_a_process(name, count, folder))
        bare = _median(measured["bare"], "total")
        for name, times in measured.items():
            parts = [f"{_median(times, part):.2f}" for part in ("total", "build", "resolve", "snapshot")]
            ratio = _median(times, "total") / bare
            print(f"{count:>6} {name:12} {parts[0]:>7} {parts[1]:>13} {parts[2]:>8} {parts[3]:>9} {ratio:>7.2f}")


def _print_validation(counts: list[int], rounds: int) -> None:
    print(f"{'syncs':>6} {'bare, CPU s':>12} {'nango, CPU s':>13} {'x bare':>7}")
    for count in counts:
        times: dict[str, list[float]] = {"bare": [], "nango": []}
        with tempfile.TemporaryDirectory() as folder:
            configs = Path(folder, "sync_configs")
            configs.mkdir()
            _write_configs(configs, count)
            Path(folder, "bare.py").write_text(f"from benchmarks.definitions import _bare\n\ndefs = _bare({count})\n")
            for _ in range(rounds):
                times["bare"].append(_validate("bare", folder))
                times["nango"].append(_validate("nango_dagster.definitions", folder))
        bare, nango = (statistics.median(times[name]) for name in ("bare", "nango"))
        print(f"{count:>6} {bare:>12.1f} {nango:>13.1f} {nango / bare:>7.2f}")


def _validate(module: str, folder: str) -> float:
    """The CPU seconds of `dagster definitions validate -m MODULE` and its processes."""
    root = str(Path(__file__).parent.parent)
    env = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{root}", "NANGO_HOME": f"{folder}/home"}
    command = [sys.executable, "-m", "dagster", "definitions", "validate", "-m", module]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True, cwd=folder, env=env)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _write_configs(folder: Path, count: int) -> None:
    for number in range(count):
        (folder / f"list_{number}.yaml").write_text(
            f"url: https://api.example.com/v1/list_{number}\nunique_key: id\nfrequency: 60\n"
            f"description: List number {number}\npaging_cursor_request_path: after\n"
            "paging_cursor_metadata_response_path: paging.next.after\n"
        )


def _in_a_process(name: str, count: int, folder: str) -> dict[str, float]:
    code = f"from benchmarks.definitions import measure; measure({name!r}, {count}, {folder!r})"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _median(times: list[dict[str, float]], part: str) -> float:
    return statistics.median(one[part] for one in times)


def measure(name: str, count: int, folder: str) -> None:
    """Load the definitions in this process, imports done, and print the CPU seconds of each part."""
    from dagster._core.remote_representation.external_data import RepositorySnap

    from nango_dagster.defs import build_definitions
    from nango_dagster.settings import Settings

    build_definitions([])
    settings = Settings.from_env({"NANGO_HOME": f"{folder}/home"}, dotenv=None)
    began = time.process_time()
    found: Any = _bare(count) if name == "bare" else build_definitions(folder, settings)
    built = time.process_time()
    repository = found.get_repository_def()
    repository.get_all_jobs()
    resolved = time.process_time()
    snapshot = RepositorySnap.from_def(repository)
    ended = time.process_time()
    jobs = [job for job in snapshot.job_datas or snapshot.job_refs or () if not job.name.startswith("__")]
    assert len(jobs) >= count, f"{len(jobs)} jobs of {count} syncs"
    parts = {"build": built - began, "resolve": resolved - built, "snapshot": ended - resolved, "total": ended - began}
    print(json.dumps(parts))


def _bare(count: int) -> Any:
    """By hand: an asset with a check, its source, a job and a schedule for each list."""
    import dagster as dg

    assets: list[Any] = []
    jobs: list[Any] = []
    schedules: list[Any] = []

    def one(name: str) -> None:
        source = dg.AssetSpec(f"{name}_api", kinds={"api"})
        spec = dg.AssetSpec(name, deps=[source.key], description=f"List {name}", kinds={"sqlite"})

        @dg.multi_asset(
            name=name, specs=[spec], check_specs=[dg.AssetCheckSpec("complete", asset=name)], can_subset=True
        )
        def body() -> Any:
            yield dg.MaterializeResult(asset_key=name)

        job = dg.define_asset_job(
            f"{name}_job", selection=dg.AssetSelection.assets(name), executor_def=dg.in_process_executor
        )
        assets.extend([body, dg.AssetsDefinition(specs=[source])])
        jobs.append(job)
        schedules.append(
            dg.ScheduleDefinition(name=f"{name}_schedule", job_name=f"{name}_job", cron_schedule="0 * * * *")
        )

    for number in range(count):
        one(f"list_{number}")
    return dg.Definitions(assets=assets, jobs=jobs, schedules=schedules)


if __name__ == "__main__":
    main()
