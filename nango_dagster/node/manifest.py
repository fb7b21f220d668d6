"""The manifest: what all scripts of a project say of themselves, written once and read by Dagster's definitions.

`$NANGO_HOME/scripts/PROJECT.json` is the manifest, and `bundles/HASH.json` beside it the files of each script without
types. A run executes the bundle that its sync names, also while the files change.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from ..errors import ConfigError
from .host import Host, HostLost, Limits
from .project import Script, scripts_of
from .providers import Source

VERSION: Final = 3
"""The version of the manifest and of the bundles; another one is described again."""
_DESCRIBING: Final = Limits(heap_megabytes=1024, silence=60.0, flags=("--min-semi-space-size=16", "--no-wasm-tier-up"))
"""A process that lives for seconds: fewer collections of garbage, and no threads that optimise code."""


class Entry(msgspec.Struct, frozen=True):
    """One script of the manifest."""

    integration: str
    name: str
    path: str
    """The path in the project."""
    files: str
    """The hash of the script's files."""
    digest: str
    """The hash of the script's files and of its provider, and the name of its bundle."""
    description: dict[str, Any]
    """The script's config: `frequency`, `models`, ...; models and schemas as JSON Schema."""
    error: str | None = None
    """The sentence of a script that cannot be run."""


class Manifest(msgspec.Struct, frozen=True):
    """The scripts of a project, and the settings of their providers."""

    version: int
    root: str
    entries: tuple[Entry, ...] = ()
    providers: dict[str, dict[str, Any]] = {}
    """The settings of the providers of its integrations."""
    stamp: str = ""
    """Changes when these settings have to be read again."""


@dataclass(frozen=True)
class Refreshed:
    """A manifest that was brought up to date."""

    manifest: Manifest
    described: Sequence[str] = ()
    """The paths of the scripts that have changed."""
    errors: Sequence[str] = field(default=())
    """A sentence for each script that cannot be run."""


def manifest_path(home: Path, root: Path) -> Path:
    """The file of a project's manifest."""
    resolved = root.resolve()
    digest = hashlib.sha256(str(resolved).encode()).hexdigest()[:8]
    return home / "scripts" / f"{resolved.name}-{digest}.json"


def bundle_path(home: Path, digest: str) -> Path:
    """The file of a bundle."""
    return home / "scripts" / "bundles" / f"{digest}.json"


def read(home: Path, root: Path) -> Manifest | None:
    """The manifest as it was written; None where there is none, or one of another version."""
    try:
        manifest = msgspec.json.decode(manifest_path(home, root).read_bytes(), type=Manifest)
    except (OSError, msgspec.MsgspecError):
        return None
    return manifest if manifest.version == VERSION else None


def read_bundle(home: Path, digest: str) -> bytes:
    """The content of a bundle. Raises ConfigError where it is gone."""
    try:
        return bundle_path(home, digest).read_bytes()
    except OSError:
        raise ConfigError(
            f"the compiled files of the script are not at {bundle_path(home, digest)}; run: nango-dagster validate"
        ) from None


def refresh(home: Path, root: Path, provider_of: Mapping[str, str] | None = None) -> Refreshed:
    """Describe the scripts of a project that have changed, in one Node process, and write the manifest.

    `provider_of` names the provider of an integration; by default it is that of the same name. Without a change nothing
    is started and nothing is written. Raises ConfigError where Node is missing.
    """
    root = root.resolve()
    old = read(home, root)
    scripts, problems = scripts_of(root)
    names = {script.integration: (provider_of or {}).get(script.integration, script.integration) for script in scripts}
    providers, stamp = _providers(root, set(names.values()), old)
    known = {} if old is None else {(entry.path, entry.digest): entry for entry in old.entries}
    entries = [Entry("", "", problem.file or "nango.yaml", "", "", {}, problem.sentence) for problem in problems]
    described: list[str] = []
    with _Describer(home, root) as describer:
        for script in scripts:
            name = names[script.integration]
            api = {"provider": name, "api": providers.get(name, {})}
            try:
                digest = _digest(script, api)
                entry = known.get((script.where, digest))
                if entry is None or entry.error or not bundle_path(home, digest).is_file():
                    entry = describer.entry(script, digest, api)
                    described.append(script.where)
            except ConfigError as error:
                entry = Entry(script.integration, script.name, script.where, "", "", {}, str(error))
            entries.append(entry)
    manifest = Manifest(VERSION, str(root), tuple(entries), providers, stamp)
    if manifest != old:
        _write(manifest_path(home, root), msgspec.json.encode(manifest))
    return Refreshed(manifest, described, [entry.error for entry in entries if entry.error])


def _providers(root: Path, names: set[str], old: Manifest | None) -> tuple[dict[str, dict[str, Any]], str]:
    """The settings of providers; read only where the file or the names have changed."""
    source = Source.of(root)
    if source is None:
        return {}, ""
    stamp = f"{source.stamp} {','.join(sorted(names))}"
    if old is not None and old.stamp == stamp:
        return old.providers, stamp
    return source.settings(sorted(names)), stamp


def _digest(script: Script, api: Mapping[str, Any]) -> str:
    parts = [str(VERSION), script.digest, msgspec.json.encode(api, order="sorted").decode()]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _write(path: Path, content: bytes) -> None:
    """Replace a file at once: a reader sees the old or the new content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    os.replace(temporary, path)


class _Describer:
    """Describes scripts in one process, which starts with the first of them."""

    def __init__(self, home: Path, root: Path) -> None:
        self._home = home
        self._root = root
        self._host: Host | None = None

    def __enter__(self) -> _Describer:
        return self

    def __exit__(self, *_: object) -> None:
        if self._host is not None:
            self._host.close()

    def entry(self, script: Script, digest: str, api: Mapping[str, Any]) -> Entry:
        """The description of a script, whose bundle is written; an error that is the script's own is in it.

        `api` has the name of its provider and the provider's settings, which the bundle keeps.
        """
        try:
            answer = self._answer(script)
        except HostLost as lost:
            self._host = None
            return _broken(script, digest, f"{script.where}: the script {lost}.")
        if isinstance(answer, str):
            return _broken(script, digest, answer)
        description = {**answer["description"], "fields": dict(script.fields)}
        if description["kind"] == "function" and not script.fields:
            sentence = f"{script.where}: it exports a function; wanted createSync({{...}}), or a nango.yaml beside it."
            return _broken(script, digest, sentence)
        if description["kind"] not in ("sync", "function"):
            return _broken(script, digest, f"{script.where}: it is {description['kind']!r}; only syncs run here.")
        bundle = {**answer["bundle"], **api}
        _write(bundle_path(self._home, digest), msgspec.json.encode(bundle))
        return Entry(script.integration, script.name, script.where, script.digest, digest, description)

    def _answer(self, script: Script) -> dict[str, Any] | str:
        """The description and the bundle, or the sentence of an error."""
        if self._host is None:
            try:
                self._host = Host(self._root, _DESCRIBING)
            except HostLost as lost:
                raise ConfigError(f"Node cannot be started: it {lost}.") from None
        files = {"entry": str(script.entry), "root": str(self._root), "files": script.files}
        session = self._host.describe(msgspec.json.encode(files))
        with contextlib.closing(session):
            while (message := session.next()) is None:
                pass
        header, body = message
        if header["t"] == "described":
            answer: dict[str, Any] = msgspec.json.decode(body)
            return answer
        frames: Sequence[str] = header["error"]["frames"]
        text = str(header["error"]["message"])
        sentence = text if str(script.entry) in text else f"{frames[0] if frames else script.where}: {text}"
        return sentence.replace(f"{self._root}{os.sep}", "")


def _broken(script: Script, digest: str, sentence: str) -> Entry:
    return Entry(script.integration, script.name, script.where, script.digest, digest, {}, sentence)
