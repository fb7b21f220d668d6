"""Read syncs from config files and POST bodies; a broken file does not hide the others."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nango_dagster.config import integrations, nango_yaml, scripts, shapes, shared_tables
from nango_dagster.config.check import check
from nango_dagster.config.document import Document, read_json, read_yaml
from nango_dagster.config.integrations import Integration, Integrations, is_declaration
from nango_dagster.config.model_references import resolved
from nango_dagster.config.names import python_name, refused
from nango_dagster.config.nango_yaml.project import NangoProject
from nango_dagster.config.parents import wrong_parent
from nango_dagster.config.source import Place, Source
from nango_dagster.config.sync import Sync
from nango_dagster.errors import ConfigError, Problem

_SUFFIXES = (".yaml", ".yml", ".json")


@dataclass(frozen=True)
class Configs:
    """The valid syncs and integrations of a folder, and the errors of the others."""

    syncs: tuple[Sync, ...]
    errors: tuple[ConfigError, ...]
    places: Mapping[tuple[str, str], tuple[str, int | None]] = field(default_factory=dict)
    """The file and the line of each sync, by integration and name."""
    integrations: tuple[Integration, ...] = ()
    """Those that files declare."""
    warnings: tuple[str, ...] = ()
    """How files were understood that are valid, and what of them does not run here."""
    declared: Integrations = field(default_factory=Integrations, repr=False)
    """The integrations with the fields that their syncs inherit."""


@dataclass(frozen=True)
class _Entry:
    """A sync and its place in a file."""

    sync: Sync
    source: Source


def read_dir(folder: Path | str, projects_outside: Sequence[Path] = ()) -> Configs:
    """The syncs of all `.yaml`, `.yml`, `.json` and `.py` files in a folder and the folders inside it.

    Of a `nango.yaml` outside of the folder only the syncs with Python scripts are read, and no errors of the file: its
    other syncs belong to `nango_dagster.node`, which reports them.
    """
    folder = Path(folder)
    if not folder.is_dir() and not projects_outside:
        sentence = f"{folder} is no folder; `nango-dagster init` makes one with a first sync."
        return Configs((), (ConfigError.of(Problem(sentence)),))
    entries: list[_Entry] = []
    errors: list[ConfigError] = []
    files = _files(folder)
    declared, problems = _integrations(folder, files)
    errors += [ConfigError.of(*problems)] if problems else []
    projects = [NangoProject.read(path, folder) for path in files if path.name in nango_yaml.FILE_NAMES]
    scripts_of_projects = {script for project in projects for script in project.scripts}
    for path in files:
        if path.name in nango_yaml.FILE_NAMES or path in scripts_of_projects:
            continue
        if path.suffix == ".py":
            valid, problems = _read_script(path, folder, declared)
        elif path.suffix in _SUFFIXES and not is_declaration(path, folder):
            valid, problems = _read(path, os.path.relpath(path), declared, folder)
        else:
            continue
        entries += valid
        errors += [ConfigError.of(*problems)] if problems else []
    inside = {path.resolve() for path in files}
    outside = [NangoProject.read(path, folder) for path in projects_outside if path.resolve() not in inside]
    for project in [*projects, *outside]:
        valid, problems = _checked(project.entries, declared, folder)
        entries += valid
        problems += project.script_problems + (project.problems if project in projects else [])
        errors += [ConfigError.of(*problems)] if problems else []
    unique, doubles = _unique(entries)
    unique, orphans = _with_parents(unique)
    syncs = tuple(entry.sync for entry in unique)
    places = {(entry.sync.integration_key, entry.sync.name): _place(entry.source) for entry in unique}
    named = tuple(item.integration for item in declared.valid.values())
    warnings = [warning for project in projects for warning in project.warnings]
    warnings += shared_tables.unmodelled(syncs)
    return Configs(syncs, (*errors, *doubles, *orphans), places, named, tuple(warnings), declared)


def read_file(path: Path | str) -> list[Sync]:
    """The syncs of one file, or a ConfigError with everything that is wrong in it.

    They inherit from the `integrations.yaml` beside the file.
    """
    path, file = Path(path), str(path)
    folder = path.parent
    declared, _ = _integrations(folder, [*_files(folder, "*"), *_files(folder, f"{integrations.STEM}/**/*")])
    if path.name in nango_yaml.FILE_NAMES:
        project = NangoProject.read(path, folder)
        entries, problems = _checked(project.entries, declared, folder)
        problems += [*project.problems, *project.script_problems]
    elif path.suffix == ".py":
        entries, problems = _read_script(path, folder, declared)
    else:
        entries, problems = _read(path, file, declared, folder)
    unique, doubles = _unique(entries)
    problems += [problem for double in doubles for problem in double.problems]
    if problems:
        raise ConfigError.of(*problems)
    return [entry.sync for entry in unique]


def from_body(body: Any) -> Sync:
    """The sync of a POST body; a field that runs code of this machine is refused.

    Without a `name` it gets one from its `friendly_name`; without either it is `unnamed`, and the store names it
    `sync-<id>`.

    >>> from_body({"url": "https://api.example.com/items", "friendly_name": "My Items"}).name
    'my-items'
    """
    if not isinstance(body, Mapping):
        form = "an object with url and the other fields of a sync"
        raise ConfigError.of(Problem(f"the body is no JSON object; wanted {form}.", wanted=form))
    for name in ("transform", "script"):
        if body.get(name) is not None:
            sentence = f"{name} runs code of this machine, so it can only be set in a config file."
            raise ConfigError.of(Problem(sentence, field=name))
    models = body.get("models")
    for name, model in models.items() if isinstance(models, Mapping) else ():
        if isinstance(model, str):
            wanted = "a JSON Schema, or module:Class in a config file"
            sentence = f"models.{name} imports code of this machine; wanted {wanted}."
            raise ConfigError.of(Problem(sentence, field=f"models.{name}", wanted=wanted))
    sync = check(shapes.named(body))
    if problem := refused(sync):
        raise ConfigError.of(problem)
    return sync


def from_document(document: Mapping[str, Any]) -> Sync:
    """The sync of a document that `Sync.document` made."""
    return check(document)


def _files(folder: Path, pattern: str = "**/*") -> list[Path]:
    """The files of a folder that are not hidden, in a fixed order."""
    return sorted(
        path
        for path in folder.glob(pattern)
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def _integrations(folder: Path, files: Iterable[Path]) -> tuple[Integrations, list[Problem]]:
    """The integrations that the files of a folder declare, and the problems of the others."""
    declared = Integrations()
    problems: list[Problem] = []
    for path in files:
        if path.suffix not in _SUFFIXES or not is_declaration(path, folder):
            continue
        file = os.path.relpath(path)
        try:
            document = _document(path, file, integrations.is_written, "wanted integrations by their names")
            several, wrong = integrations.declared(document, file, name=None if path.parent == folder else path.stem)
        except ConfigError as error:
            several, wrong = Integrations(unreadable=file, is_declared=True), list(error.problems)
        problems += wrong
        declared = declared.merged(several)
    return declared, problems


def _read(path: Path, file: str, declared: Integrations, folder: Path) -> tuple[list[_Entry], list[Problem]]:
    """The valid syncs of a file, and the problems of the others."""
    try:
        entries, problems = _checked(shapes.entries(_document(path, file), file, path.stem), declared, folder)
    except ConfigError as error:
        return [], list(error.problems)
    # A problem of the defaults is a problem of every sync, and is reported once.
    return entries, list({(problem.line, problem.column, problem.sentence): problem for problem in problems}.values())


def _checked(
    declarations: Iterable[tuple[Mapping[str, Any], Source]], declared: Integrations, folder: Path
) -> tuple[list[_Entry], list[Problem]]:
    """The valid syncs among the declarations, and the problems of the others."""
    entries: list[_Entry] = []
    problems: list[Problem] = []
    for fields, place in declarations:
        try:
            inherited, source = declared.inherit(fields, place)
            entries.append(_Entry(check(resolved(inherited, source, folder), source), source))
        except ConfigError as error:
            problems += error.problems
    return entries, problems


def _document(
    path: Path, file: str, is_written: Callable[[Place], bool] = shapes.is_written, wanted: str = shapes.WANTED
) -> Document:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _whole(file, "the file is not UTF-8 text; save it as UTF-8.") from error
    except OSError as error:
        raise _whole(file, f"the file cannot be read: {error.strerror}.") from error
    if not text.strip():
        raise _whole(file, f"the file is empty; {wanted}.")
    return read_json(text, file) if path.suffix == ".json" else read_yaml(text, file, is_written)


def _read_script(path: Path, folder: Path, declared: Integrations) -> tuple[list[_Entry], list[Problem]]:
    """The valid syncs that the functions of a Python file declare, and the problems of the others."""
    try:
        return _checked(scripts.declared(path, folder), declared, folder)
    except ConfigError as error:
        return [], list(error.problems)


def _unique(entries: Iterable[_Entry]) -> tuple[list[_Entry], list[ConfigError]]:
    """The entries with a new name and model in their integration, and an error for each of the others."""
    unique: list[_Entry] = []
    errors: list[ConfigError] = []
    taken: dict[tuple[str, str, str], _Entry] = {}
    for entry in entries:
        if problem := refused(entry.sync):
            errors.append(ConfigError.of(entry.source.locate(problem, (problem.field or "name",))))
            continue
        keys = {
            "name": ("name", "", python_name(entry.sync)),
            "model": ("model", entry.sync.integration_key, entry.sync.model),
        }
        double = next((field for field, key in keys.items() if key in taken), None)
        if double:
            errors.append(_double(double, entry, taken[keys[double]]))
            continue
        if problem := shared_tables.conflict(entry.sync, (other.sync for other in unique)):
            errors.append(ConfigError.of(entry.source.locate(problem, ("mapped_table",))))
            continue
        unique.append(entry)
        taken.update(dict.fromkeys(keys.values(), entry))
    return unique, errors


def _with_parents(entries: Sequence[_Entry]) -> tuple[list[_Entry], list[ConfigError]]:
    """The entries whose `for_each` names a valid sync, and an error for each of the others."""
    valid = list(entries)
    errors: list[ConfigError] = []
    while True:
        syncs = [entry.sync for entry in valid]
        wrong = {id(entry): problem for entry in valid if (problem := wrong_parent(entry.sync, syncs))}
        if not wrong:
            return valid, errors
        errors += [
            ConfigError.of(entry.source.locate(wrong[id(entry)], ("for_each", "sync")))
            for entry in valid
            if id(entry) in wrong
        ]
        valid = [entry for entry in valid if id(entry) not in wrong]


def _double(field: str, entry: _Entry, first: _Entry) -> ConfigError:
    value = getattr(entry.sync, field)
    mark = first.source.mark(())
    where = f"{first.source.file}:{mark.line}" if mark else first.source.file
    alike = " and Dagster cannot tell them apart" if field == "name" and value != first.sync.name else ""
    sentence = f"the {field} {value} is taken by the sync {first.sync.name} in {where}{alike}; wanted another {field}."
    return ConfigError.of(entry.source.locate(Problem(sentence, field=field, found=value), (field,)))


def _place(source: Source) -> tuple[str, int | None]:
    mark = source.mark(())
    return str(source.file), mark.line if mark else None


def _whole(file: str, sentence: str) -> ConfigError:
    return ConfigError.of(Problem(sentence, file=file))
