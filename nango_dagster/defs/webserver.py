"""Dagster's webserver and `dagster dev`, with the guard against pages of other sites.

`python -m nango_dagster.defs.webserver dev ...` is `dagster dev ...`, whose webserver is
`python -m nango_dagster.defs.webserver serve ...`, which is `dagster-webserver ...` inside the guard. Dagster has no
option for either; where it has renamed the two functions that are wrapped here, starting ends with a sentence.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from types import ModuleType
from typing import Any

from ..errors import NangoError
from .browser_guard import BrowserGuard

MODULE = "nango_dagster.defs.webserver"


def dev() -> None:
    """Run `dagster dev`, with the guarded webserver in place of its own."""
    import dagster._cli
    import dagster._cli.dev

    _wrap(dagster._cli.dev, "open_ipc_subprocess", _with_guarded_webserver)
    dagster._cli.main()  # type: ignore[no-untyped-call]  # of the library


def serve() -> None:
    """Run `dagster-webserver` inside the guard."""
    import dagster_webserver.cli

    _wrap(dagster_webserver.cli, "create_app_from_workspace_process_context", _guarded)
    dagster_webserver.cli.main()  # type: ignore[no-untyped-call]  # of the library


def _wrap(module: ModuleType, name: str, wrapper: Callable[..., Any]) -> None:
    if not hasattr(module, name):
        raise NangoError(
            f"this release of Dagster has no {module.__name__}.{name}, so its webserver cannot be guarded; "
            "install a release that nango-dagster names in its dependencies."
        )
    setattr(module, name, partial(wrapper, getattr(module, name)))


def _with_guarded_webserver(open_process: Callable[..., Any], command: Sequence[str], **options: Any) -> Any:
    arguments = list(command)
    if "dagster_webserver" in arguments:
        at = arguments.index("dagster_webserver")
        arguments[at : at + 1] = [MODULE, "serve"]
    return open_process(arguments, **options)


def _guarded(create_app: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    app = create_app(*arguments, **options)
    app.add_middleware(BrowserGuard)
    return app


if __name__ == "__main__":
    command = {"dev": dev, "serve": serve}[sys.argv[1]]
    if command is serve:
        del sys.argv[1]
    command()
