"""The page docs/cli.md, made from the commands: `python -m nango_dagster.cli.reference docs/cli.md`."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import click

_COMMON = ("configs", "as_json")
_HEAD = """\
# Command line

<!-- Made from the code by `nango_dagster.cli.reference`; a test holds it current. -->

`nango-dagster --help` and the `--help` of each command say the same. Each takes

- `--configs DIR`: the folder with the sync configs; the environment variable `NANGO_SYNC_CONFIGS` says it for all, and
  without either it is `./sync_configs`,
- `--json`: one JSON document on stdout and nothing else, for machines. When a command fails its `error` says why.

The status is 0 when it worked, 1 when it did not (the reason is a sentence on stderr), 2 when the command line itself
is wrong. `LOG_LEVEL` says how much is logged to stderr, and the other settings are those of
[deploying](deploy.md#in-a-dagster-project-that-you-have), from the environment or a file `.env`.
"""


def reference(main: click.Group) -> str:
    """The contents of `docs/cli.md`."""
    commands = list(_commands(main, ()))
    index = [f"| [`{' '.join(path)}`](#{'-'.join(path)}) | {_sentences(command)[0]} |" for path, command in commands]
    sections = ["\n".join(_section(path, command)) for path, command in commands]
    return "\n".join([_HEAD, "| | |", "|---|---|", *index, "", *sections])


def _commands(group: click.Group, above: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        yield (*above, name), command
        if isinstance(command, click.Group):
            yield from _commands(command, (*above, name))


def _section(path: tuple[str, ...], command: click.Command) -> Iterator[str]:
    yield f"## {' '.join(path)}\n"
    yield f"```bash\n{(command.epilog or '').removeprefix('Example: ')}\n```\n"
    yield inspect.cleandoc(command.help or "") + "\n"
    own = [option for option in command.params if isinstance(option, click.Option) and option.name not in _COMMON]
    if own:
        yield "| Option | |"
        yield "|---|---|"
        yield from map(_row, own)
        yield ""


def _row(option: click.Option) -> str:
    """An option's line, written here so that it does not change with click's version."""
    name = " ".join([", ".join(option.opts), option.metavar or ""]).strip()
    default = f" Default: {option.default}." if option.show_default else ""
    return f"| `{name}` | {option.help}{default} |"


def _sentences(command: click.Command) -> list[str]:
    return inspect.cleandoc(command.help or "").split("\n\n")


if __name__ == "__main__":
    from nango_dagster.cli import main as commands

    Path(sys.argv[1]).write_text(reference(commands), encoding="utf-8")
