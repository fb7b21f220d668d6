"""Dagster definitions of a project's syncs, to be served alone or merged into another project."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dagster import DagsterError, Definitions

from .. import posted
from ..config import Sync, read_dir
from ..errors import ConfigError
from ..node.configs import read_configs
from ..settings import Settings
from . import control, dispatch, logs, names, not_loaded, retention, shared
from .not_loaded import NotLoaded
from .placements import SyncOptions
from .resource import NangoResource
from .shared import Shared
from .sync_definitions import SyncDefinitions
from .translator import NangoSyncTranslator, SyncProps

log = logging.getLogger(__name__)

Selector = Callable[[Sync], bool]
"""Whether a sync is loaded."""


def build_definitions(
    configs: str | Path | Sequence[Sync] | None = None,
    settings: Settings | None = None,
    *,
    key_prefix: str | Sequence[str] = (),
    translator: NangoSyncTranslator | None = None,
    select: Selector | None = None,
    options: SyncOptions | None = None,
    scripts: str | Path | bool = True,
) -> Definitions:
    """Make an asset, a job, a schedule and a check for every sync, with the IO manager and the resource that they need.

    `configs` is a folder, or a list of syncs that were made in Python. The default is the folder of the settings.
    Unless it is a list, posted syncs and the TypeScript syncs of the Nango project `scripts` are loaded, too; the
    default of `scripts` is the project of the settings. The key of each asset begins with `key_prefix`, `translator`
    makes the specs of the assets, and `select` chooses syncs. The definitions have no default executor. They can be
    merged with those of the project and of other calls.

    An invalid config is logged with file and line, and shown in the UI as an asset of the group `not_loaded`; the other
    syncs are loaded. `dagster definitions validate` and `dg check defs` fail: there ConfigError is raised.

    >>> from nango_dagster.config import Sync
    >>> definitions = build_definitions([Sync(name="pokemon", url="https://pokeapi.co/api/v2/pokemon")])
    >>> [job.name for job in definitions.jobs]
    ['pokemon_job', 'nango_dispatch', 'nango_control', 'nango_retention']
    """
    settings, options = settings or Settings.from_env(), options or SyncOptions()
    logs.follow(settings)
    common = shared.of(settings, options.default_status)
    prefix = (key_prefix,) if isinstance(key_prefix, str) else tuple(key_prefix)
    problems: list[NotLoaded] = []
    loaded = [
        entry
        for entry in _load(configs, common, problems, scripts)
        if entry.props.sync.enabled
        and (options.posted or not entry.posted)
        and (select is None or select(entry.props.sync))
    ]
    translator = translator or NangoSyncTranslator()
    placed = {_name(entry.props.sync): replace(entry.props, key_prefix=prefix) for entry in loaded}
    made: list[SyncDefinitions] = []
    for entry in loaded:
        props = placed[_name(entry.props.sync)]
        each = props.sync.for_each
        parent = placed.get((props.sync.integration_key, each.sync)) if each else None
        ready = replace(entry, props=replace(props, parent=parent))
        if definitions := _definitions(ready, translator, options, common, problems):
            made.append(definitions)
    made = _distinct(made, problems)
    is_posted = {id(definitions) for definitions in common.posted.values()}
    for definitions in made:
        common.nango.place(definitions.placement, posted=id(definitions) in is_posted)
    for problem in problems:
        log.error("%s", problem.error)
    not_loaded.refuse(problems)
    return Definitions(
        assets=[
            *(asset for definitions in made for asset in (definitions.asset, definitions.source)),
            *(common.notice(problem) for problem in not_loaded.merged(problems)),
        ],
        jobs=[*(definitions.job for definitions in made), *common.jobs],
        sensors=common.sensors,
        schedules=[*(definitions.schedule for definitions in made), *common.schedules],
        resources={names.RESOURCE: common.nango, names.IO_MANAGER: common.io_manager},
    )


def _name(sync: Sync) -> tuple[str, str]:
    return sync.integration_key, sync.name


# --- the syncs --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Loaded:
    """A sync that was read, and whether it arrived over HTTP."""

    props: SyncProps
    posted: bool = False


def _load(
    configs: str | Path | Sequence[Sync] | None, common: Shared, problems: list[NotLoaded], scripts: str | Path | bool
) -> Iterator[_Loaded]:
    """The syncs of files or of Python code, and the posted ones; a file replaces a posted sync of the same name."""
    settings = common.settings
    if configs is not None and not isinstance(configs, (str, Path)):
        for sync in configs:
            yield _Loaded(SyncProps.of(sync, settings))
        return
    taken = set()
    for props in _of_files(
        Path(configs) if configs is not None else settings.configs, settings, problems, common.nango, scripts
    ):
        taken.add((props.sync.integration_key, props.sync.name))
        yield _Loaded(props)
    for sync in posted.load(settings):
        if (sync.integration_key, sync.name) not in taken:
            yield _Loaded(SyncProps.of(sync, settings), posted=True)


def _of_files(
    folder: Path,
    settings: Settings,
    problems: list[NotLoaded],
    nango: NangoResource | None = None,
    scripts: str | Path | bool = True,
) -> Iterator[SyncProps]:
    """The syncs of a folder and of a Nango project; `nango` stores the integrations that the folder declares."""
    if not isinstance(scripts, bool):
        settings = replace(settings, scripts=Path(scripts))
    try:
        configs = read_configs(settings, folder) if scripts else read_dir(folder)
    except ConfigError as unreadable:
        problems.append(NotLoaded.of(unreadable))
        return
    problems += map(NotLoaded.of, configs.errors)
    if nango is not None:
        nango.declare(configs.integrations)
    for sync in configs.syncs:
        file, line = configs.places[sync.integration_key, sync.name]
        yield replace(SyncProps.of(sync, settings), file=Path(file).absolute(), line=line)


# --- their definitions ------------------------------------------------------------------------------------------------


def _definitions(
    loaded: _Loaded,
    translator: NangoSyncTranslator,
    options: SyncOptions,
    common: Shared,
    problems: list[NotLoaded],
) -> SyncDefinitions | None:
    """The definitions of a sync; those of a posted sync that another component has loaded are that component's."""
    sync = loaded.props.sync
    key = _name(sync)
    before = common.posted.get(key)
    if loaded.posted and before is not None and before.placement.sync == sync:
        return before
    try:
        definitions = SyncDefinitions.of(loaded.props, translator, options)
    except DagsterError as refused:
        reason = str(refused).partition("\n")[0]
        error = f"sync {sync.name} is not loaded, because Dagster refuses it: {reason} Choose another name."
        problems.append(NotLoaded(sync.name, error))
        return None
    if loaded.posted:
        common.posted[key] = definitions
    return definitions


_SYSTEM_NAMES = (dispatch.OP, names.DISPATCH_JOB, control.OP, names.CONTROL_JOB, retention.OP, names.RETENTION_JOB)


def _distinct(several: Iterable[SyncDefinitions], problems: list[NotLoaded]) -> list[SyncDefinitions]:
    """The definitions with different names in Dagster, where `a-b` and `a_b` are the same."""
    kept: list[SyncDefinitions] = []
    taken: dict[str, str] = dict.fromkeys(_SYSTEM_NAMES, "a job of nango_dagster")
    for definitions in several:
        name = definitions.placement.sync.name
        if other := next((taken[name] for name in definitions.taken if name in taken), None):
            error = f"sync {name} is not loaded: its name in Dagster is also that of {other}."
            problems.append(NotLoaded(name, error))
            continue
        taken.update(dict.fromkeys(definitions.taken, f"sync {name}"))
        kept.append(definitions)
    return kept
