"""`test`: sync scripts against recorded answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..config import Sync
from ..errors import ConfigError
from ..sentences import suggestion
from .command import Failed, Session, command
from .formatting import number_of

if TYPE_CHECKING:
    from ..scripts import Fixture


@dataclass(frozen=True)
class _Tested:
    """The result of one file."""

    file: str
    sync: str | None
    differences: tuple[str, ...]


@command("test", example="test tests/github_issues.test.json")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
def test(session: Session, files: Sequence[Path]) -> None:
    """Run sync scripts against recorded answers, and compare what they save.

    FILES are files that `dry-run --save` has written, files *.test.json of Nango, or folders mocks/SYNC of Nango. Any
    other folder stands for all such files in it. Default: the folder of configs, the folder tests and the Nango
    project. Files of actions are left out. The command uses no network and no database. The exit status is 1 if a
    script differs from its file.

    With --json: tested (file, sync, differences), failed.
    """
    session.describe_scripts()
    tested = [_tested(session, path) for path in _paths(session, files)]
    failed = [test for test in tested if test.differences]
    answer: dict[str, Any] = {
        "tested": [{"file": test.file, "sync": test.sync, "differences": list(test.differences)} for test in tested],
        "failed": len(failed),
    }
    session.answer(answer, *_for_people(tested))
    if failed:
        raise Failed(f"{number_of(len(failed), 'file')} of {len(tested):,} failed.")


def _for_people(tested: Sequence[_Tested]) -> Iterator[str]:
    for test in tested:
        yield f"{'failed' if test.differences else 'passed'}: {test.file}" + (f" ({test.sync})" if test.sync else "")
        yield from (f"  {sentence}" for sentence in test.differences)
    if not tested:
        yield "no files *.test.json and no folders mocks/SYNC; nango-dagster dry-run SCRIPT --save FILE writes a file."


def _paths(session: Session, files: Sequence[Path]) -> list[Path]:
    """The files and folders in their order. Raises ConfigError for one that does not exist."""
    from ..scripts import fixtures_in

    roots = (session.settings.configs, Path("tests"), session.settings.scripts)
    paths: list[Path] = []
    for path in list(files) or [root for root in roots if root.is_dir()]:
        if path.is_dir():
            paths += [fixture for fixture in fixtures_in(path) if not _is_of_action(fixture)]
        elif path.is_file():
            paths += [] if _is_of_action(path) else [path]
        else:
            raise ConfigError(f"there is no file {path}, and no folder.")
    return list(dict.fromkeys(paths))


def _is_of_action(path: Path) -> bool:
    """Whether a recorded file belongs to an action of a Nango project, which does not run here."""
    from ..scripts import FILE_SUFFIX

    action = path.parent.parent / "actions" / path.name.replace(FILE_SUFFIX, ".ts")
    return path.is_file() and action.is_file()


def _tested(session: Session, path: Path) -> _Tested:
    from ..runs.trying import replay
    from ..scripts import Fixture

    try:
        fixture = Fixture.read(path)
        sync = sync_of(fixture, session.configs.syncs)
        return _Tested(str(path), sync.name, replay(sync, session.settings, fixture).differences)
    except ConfigError as error:
        return _Tested(str(path), None, (str(error),))


def sync_of(fixture: Fixture, syncs: Sequence[Sync]) -> Sync:
    """The script that a file is about: named in it, or by its own name and the folder above `tests`.

    Raises ConfigError where there is none.
    """
    scripts = [sync for sync in syncs if sync.script is not None]
    name = str(fixture.document.get("sync") or fixture.path.name.removesuffix(".test.json"))
    integration = str(fixture.document.get("integration") or fixture.path.absolute().parent.parent.name)
    named = [sync for sync in scripts if _plain(name) in (_plain(sync.name), _plain(_whole(sync)))]
    exact = [sync for sync in named if _plain(integration) == _plain(sync.integration_key)]
    if len(exact) == 1 or len(named) == 1:
        return (exact or named)[0]
    if named and not exact:
        others = ", ".join(sorted(sync.integration_key for sync in named)[:5])
        raise ConfigError(f"{fixture.path}: {integration} has no script {name}; {others} have one.")
    reason = f"are {len(exact)} scripts with the name {name}" if exact else f"is no script {name}"
    raise ConfigError(f"{fixture.path}: there {reason}; {suggestion(name, [_whole(sync) for sync in scripts])}")


def _whole(sync: Sync) -> str:
    return f"{sync.integration_key}-{sync.name}" if sync.integration else sync.name


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")
