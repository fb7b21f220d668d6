"""`api` and `dev`: the commands that run until they are ended."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..dagster_yaml import dagster_home
from ..errors import ConfigError
from .command import Session, command
from .config_watch import ConfigWatch
from .instance import create_storage
from .ports import answers, check_free
from .processes import Child, run_together
from .sample import sample_api

if TYPE_CHECKING:
    from ..settings import Settings

HOST = "127.0.0.1"
_NO_ADVICE = "-Wignore:Function `dev_command` is superseded"  # by `dg dev`, which is not installed with us
_port = click.IntRange(1, 65535)


@command("api", example="api --port 3003")
@click.option("--host", metavar="ADDRESS", default=HOST, show_default=True, help="The address to listen on.")
@click.option("--port", type=_port, metavar="PORT", help="The port; NANGO_PORT, or 3003.")
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    metavar="N",
    default=1,
    show_default=True,
    help="The number of worker processes.",
)
def api(session: Session, host: str, port: int | None, workers: int) -> None:
    """Serve the HTTP API.

    Its reference is at /docs. Without NANGO_SECRET_KEY it accepts requests from this machine only.
    """
    from ..api import serve

    with contextlib.suppress(KeyboardInterrupt):  # uvicorn has shut down and passes the signal on
        serve(session.settings, host=host, port=port or session.settings.port, workers=workers)


@command("dev", example="dev --port 3000 --api-port 3003")
@click.option("--port", type=_port, metavar="PORT", default=3000, show_default=True, help="The port of the Dagster UI.")
@click.option("--api-port", type=_port, metavar="PORT", help="The port of the HTTP API; NANGO_PORT, or 3003.")
def dev(session: Session, port: int, api_port: int | None) -> None:
    """Start the Dagster UI, its daemon and the API.

    The daemon runs the schedules. It loads the code locations of workspace.yaml in this folder, or else every sync of
    the config folder. When a file of that folder or of the Nango project changes, the daemon loads it again within
    seconds. Ctrl-C or SIGTERM ends all processes within half a minute. A shell that starts the command with & makes it
    ignore Ctrl-C; use SIGTERM then. When one process ends, the command ends the others and returns its exit status.

    With --json: ui, api (their URLs), as soon as both respond; the logs go to stderr.
    """
    api_port = api_port or session.settings.port
    if port == api_port:
        raise ConfigError(f"--port and --api-port are both {port}; wanted two ports.")
    check_free(HOST, port, "--port")
    check_free(HOST, api_port, "--api-port")
    session.describe_scripts()
    session.warn_of_configs()
    _register(session)
    create_storage(session.settings)
    ui_url, api_url = f"http://{HOST}:{port}", f"http://{HOST}:{api_port}"
    if not session.as_json:
        session.notes.print(f"The Dagster UI will be at {ui_url}, the HTTP API at {api_url}; Ctrl-C ends them.")

    is_ready = False

    def tick() -> None:
        nonlocal is_ready
        if is_ready:
            watch.look()
        elif answers(HOST, port) and answers(HOST, api_port):
            session.answer({"ui": ui_url, "api": api_url}, f"Ready: {ui_url} (Dagster UI), {api_url}/docs (HTTP API)")
            sys.stdout.flush()
            is_ready = True

    with (
        contextlib.closing(ConfigWatch(session, ui_url)) as watch,
        sample_api(session, session.configs.syncs) as session_of_children,
    ):
        environment = _environment(session_of_children.settings, ui_url)
        children = [
            Child("the Dagster UI", _dagster_dev(session.settings, port), environment),
            Child("the HTTP API", [*_python("nango_dagster.cli"), "api", "--port", str(api_port)], environment),
        ]
        dead_child = run_together(children, tick)
    if dead_child is not None:
        session.warn(f"{dead_child.name} ended by itself ({dead_child.ending}); the other processes were stopped.")
        raise click.exceptions.Exit(dead_child.status)


def _register(session: Session) -> None:
    """Write the syncs into the store, so that new ones run at once; raises StoreUnavailable before anything starts."""
    from ..store import integrations, syncs

    with session.database() as database:
        integrations.declare(database, session.configs.integrations)
        syncs.register(database, session.configs.syncs, on_refused=session.warn)


def _environment(settings: Settings, ui_url: str) -> dict[str, str]:
    """The environment of the child processes: this process's, with what the command line has set."""
    return {
        **os.environ,
        **{f"NANGO_ENV_{name}": value for name, value in settings.env.items()},
        "DAGSTER_HOME": str(dagster_home(settings).absolute()),
        "NANGO_SYNC_CONFIGS": str(settings.configs),
        "NANGO_SCRIPTS": str(settings.scripts),
        "NANGO_DAGSTER_URL": ui_url,
    }


def _dagster_dev(settings: Settings, port: int) -> list[str]:
    where = ["-w", "workspace.yaml"] if Path("workspace.yaml").exists() else ["-m", "nango_dagster.definitions"]
    # At "info" Dagster's daemon writes two lines for every tick of every sensor, one each five seconds.
    level = "warning" if settings.log_level == "INFO" else settings.log_level.lower()
    return [
        *_python("nango_dagster.defs.webserver", _NO_ADVICE),
        "dev",
        *where,
        "--host",
        HOST,
        "--port",
        str(port),
        "--log-level",
        level,
    ]


def _python(module: str, *options: str) -> list[str]:
    return [sys.executable, *options, "-m", module]
