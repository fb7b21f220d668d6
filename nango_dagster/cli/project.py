"""`init` and `validate`: the files of a project."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path

import click

from ..config import Configs, integrations_schema_text, placeholders, schema_text
from ..config.scripts import load_function as load_script
from ..errors import ConfigError, NangoError, Problem
from . import sample
from .command import Failed, Session, as_json, command, printable
from .formatting import number_of
from .table_differences import difference_document, difference_lines, table_differences

FILES = {
    "sync_configs/pokemon.yaml": "pokemon.yaml",
    ".env.example": "env.example",
    "workspace.yaml": "workspace.yaml",
}
SCRIPTS = ("hubspot_deals", "github_repository_issues", "slack_channel_messages", "google_events", "unified_contacts")
RECORDED = (*SCRIPTS[:-1], "hubspot_contacts", "pipedrive_persons")
TEMPLATES = {
    **{f"sync_configs/{name}.py": f"{name}.py.txt" for name in SCRIPTS},
    **{f"tests/{name}.test.json": f"{name}.test.json" for name in RECORDED},
    "tests/test_scripts.py": "test_scripts.py.txt",
}
"""The files of `--template`: five examples of Python scripts with recorded answers, and a test."""
IGNORED = (".nango/", ".env")  # databases and Dagster's home; secrets
HINT = """\
A Dagster project of your own needs no workspace.yaml for this: merge the syncs into its definitions,
  dg.Definitions.merge(my_definitions, nango_dagster.defs.build_definitions())
or name them in pyproject.toml:
  [tool.dagster]
  module_name = "nango_dagster.definitions\""""


@dataclass
class Made:
    """The files that `init` created, and those that existed."""

    created: list[str]
    kept: list[str]


@command("init", example="init my-syncs")
@click.argument("folder", metavar="[DIR]", default=".", type=click.Path(file_okay=False, path_type=Path))
@click.option("--template", is_flag=True, help="Also write five Python scripts with recorded answers and a test.")
def init(session: Session, folder: Path, template: bool) -> None:
    """Make a project with a first sync.

    The project has a sync config, a template of settings, and a workspace file for Dagster. Default of DIR: the current
    folder. Existing files are not changed; .gitignore gets the entries .nango/ and .env if it lacks them. The first
    sync reads a sample API of the package, so it can run at once and offline.

    --template adds five examples: a list of changes in a CRM, a variant for each repository, a list for each channel, a
    calendar with sync tokens, and one model from two APIs. `nango-dagster test` and pytest run them with their recorded
    answers.
    """
    made = Made([], [])
    try:
        for name, source in FILES.items():
            _write(folder / name, f"new_project/{source}", made)
        for name, source in TEMPLATES.items() if template else ():
            _write(folder / name, f"script_project/{source}", made)
        _ignore(folder / ".gitignore", made)
    except OSError as error:
        raise NangoError(f"cannot write {error.filename or folder}: {error.strerror}.") from None
    lines = [f"made  {name}" for name in made.created] + [f"kept  {name}" for name in made.kept]
    hint = ["", HINT] if (folder / "pyproject.toml").exists() else []
    enter = "" if folder.resolve() == Path.cwd() else f"cd {folder} && "
    following = f"Next: {enter}nango-dagster {'test' if template else 'dry-run pokemon'}"
    session.answer({"folder": str(folder.absolute()), **asdict(made)}, *lines, *hint, "", following)


def _write(path: Path, source: str, made: Made) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write((files(__package__) / source).read_text(encoding="utf-8"))
    except FileExistsError:
        made.kept.append(str(path))
    else:
        made.created.append(str(path))


def _ignore(path: Path, made: Made) -> None:
    """Append the missing entries."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    entries = {line.strip().strip("/") for line in text.splitlines()}
    missing = [entry for entry in IGNORED if entry.strip("/") not in entries]
    if not missing:
        made.kept.append(str(path))
        return
    before = "\n" if text and not text.endswith("\n") else ""
    with path.open("a", encoding="utf-8") as file:
        file.write(before + "".join(f"{entry}\n" for entry in missing))
    made.created.append(f"{path} ({' '.join(missing)})" if text else str(path))


@command("validate", example="validate --configs sync_configs")
@click.option(
    "--schema",
    type=click.Choice(["syncs", "integrations"]),
    is_flag=False,
    flag_value="syncs",
    help="Print the JSON Schema of files with syncs, or of files with integrations, and check nothing.",
)
@click.option("--diff", "shows_diff", is_flag=True, help="Also show what the configs would change in the tables.")
def validate(session: Session, schema: str | None, shows_diff: bool) -> None:
    """Check the sync configs and the integrations.

    It prints a line for each problem: file, line, field, the value found and the allowed values. The exit status is 1
    if there is a problem. It sends no request and opens no database, so it can run in CI.

    These are warnings: a variable without a value, such as ${env.TOKEN}, because it may be set only where the sync
    runs; a line of a nango.yaml that was corrected while it was read; and the actions of a nango.yaml, which do not run
    here.

    --diff reads the database and changes nothing. It shows, for each table, the effect of the next execution: the
    columns that it adds, the columns whose type differs from the model, the comments that it changes (PostgreSQL), and
    the number of records that it maps again.

    With --json: valid, syncs (names), integrations (names), problems (file, line, field, found, wanted, sentence),
    warnings; with --diff: diff (sync, table, is_new, added and unfilled (name, type, path), retyped (name, path, from,
    to), commented (name, comment), mapped_again).
    """
    if schema:
        click.echo(schema_text() if schema == "syncs" else integrations_schema_text(), nl=False)
        return
    session.describe_scripts()
    configs = session.configs
    problems = [*session.problems, *_unloadable(configs, session.settings.configs)]
    names = [sync.name for sync in configs.syncs]
    warnings = [*configs.warnings, *_unset_variables(configs, session.settings.env)]
    document = {
        "valid": not problems,
        "syncs": names,
        "integrations": [integration.name for integration in configs.integrations],
        "problems": [asdict(problem) for problem in problems],
        "warnings": warnings,
    }
    differences = table_differences(session) if shows_diff else []
    if shows_diff:
        document["diff"] = [difference_document(*difference) for difference in differences]
    for warning in [] if session.as_json else warnings:
        click.echo(printable(warning), err=True)
    good = number_of(len(names), "sync")
    if not problems:
        lines = [line for difference in differences for line in difference_lines(*difference)]
        if shows_diff and not lines:
            lines = ["no table would change"]
        session.answer(document, f"{good} valid: {', '.join(names)}" if names else "no syncs", *lines)
        return
    for problem in [] if session.as_json else problems:
        click.echo(printable(str(problem)))
    if session.as_json:
        click.echo(as_json(document))
    raise Failed(f"{number_of(len(problems), 'problem')}; {good} valid.")


def _unset_variables(configs: Configs, env: Mapping[str, str]) -> Iterator[str]:
    """A sentence for each environment variable that a sync uses and that has no value."""
    for sync in configs.syncs:
        for name in dict.fromkeys(placeholders(sync.templates)):
            variable = name.removeprefix("env.")
            if variable != name and variable not in env and variable != sample.VARIABLE:
                yield f"{sync.name}: ${{{name}}} has no value here; set NANGO_ENV_{variable} before it runs."


def _unloadable(configs: Configs, folder: Path) -> Iterator[Problem]:
    """A problem for each script and each transform that cannot be imported."""
    for sync in configs.syncs:
        if sync.script is not None and sync.script_language == "python":
            try:
                load_script(sync.script, folder)
            except ConfigError as error:
                wanted = "a function of a file in the folder of configs, or of a module"
                yield Problem(f"{sync.name}: {error}", field="script", found=sync.script, wanted=wanted)
        if sync.transform is None:
            continue
        from ..runs import load_function

        try:
            load_function(sync.transform)
        except ConfigError as error:
            wanted = "module:function, beside the working directory or installed"
            yield Problem(f"{sync.name}: {error}", field="transform", found=sync.transform, wanted=wanted)
