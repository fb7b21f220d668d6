"""A sync script in TypeScript as a source: it runs in a Node process, and its calls in the execution's thread."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import msgspec

from .. import clock
from ..config import Sync, is_credential, placeholders
from ..errors import ApiError, Cancelled, ConfigError, Incomplete, RecordRejected, ScriptError
from ..paths import MISSING, dig
from ..scripts import ScriptExecution
from ..scripts.retry_rules import RetryRule
from ..scripts.sending import Api
from ..sources import Ending, Model, Sink, SourceContext
from . import manifest
from .host import Host, HostLost, Session
from .members import Members
from .pool import POOL, Pool
from .signing import Signer

_FOR_SCRIPT: Final = (ScriptError, ConfigError, ApiError, RecordRejected)
"""Errors that a script may catch; any other ends the execution."""


@dataclass(frozen=True)
class NodeScript:
    """The script of a sync's config, which names its file and the hash of its bundle."""

    sync: Sync
    home: Path
    pool: Pool = POOL
    needs_access: bool = True

    @property
    def models(self) -> tuple[Model, ...]:
        """The models that it declares; none where that is the one model of its sync's config."""
        names = list(self.sync.models)
        if len(names) < 2:
            return ()
        return tuple(Model(name, "id", track_deletes=self.sync.track_deletes) for name in names)

    def read(self, context: SourceContext, sink: Sink) -> Ending:
        """Run the script to its end.

        A process that is lost may be another script's fault: then the execution begins once more from its checkpoint,
        in a process of its own. Raises ScriptError with the script's line.
        """
        path, _, digest = (self.sync.script or "").rpartition("@")
        content = manifest.read_bundle(self.home, digest)
        bundle = msgspec.json.decode(content)
        root = Path(bundle["root"])
        run = _Run(self.sync, path, digest, content, bundle)
        if not self.pool.is_blamed(root, digest):
            try:
                with self.pool.shared(root) as host:
                    return run.read(host, context, sink)
            except HostLost:
                context = replace(context, checkpoint=run.checkpoint)
        try:
            with self.pool.alone(root) as host:
                return run.read(host, context, sink)
        except HostLost as lost:
            self.pool.blame(root, digest)
            reason = str(lost)
        raise ScriptError(f"{self.sync.display_name}: {path}: the script {reason}.")


def provider_of(sync: Sync, home: Path) -> Mapping[str, Any]:
    """The settings of the provider that the bundle of a script has; none for any other sync."""
    if sync.script_language != "typescript":
        return {}
    bundle = msgspec.json.decode(manifest.read_bundle(home, (sync.script or "").rpartition("@")[2]))
    provider: Mapping[str, Any] = bundle["api"]
    return provider


def api_of(sync: Sync, provider: Mapping[str, Any], context: SourceContext) -> Api:
    """The API of a sync with the values of a connection.

    Of the alternatives for the base URL the first one is used whose placeholders have values. A header or parameter
    without its value is left out.
    """
    api, alternatives = Api.of(sync), provider.get("base_urls") or ()
    values = context.facts if context.access is None else context.access.variables(False)
    base = api.base_url
    if base in alternatives:
        base = next((url for url in alternatives if _has_values(url, values)), base)
    headers = {name: text for name, text in api.headers.items() if _has_values(text, values)}
    params = {name: text for name, text in api.query_params.items() if _has_values(text, values)}
    places_key = any(map(is_credential, placeholders([*headers.values(), *params.values()])))
    return Api(
        base,
        headers,
        params,
        provider.get("paginate") or {},
        RetryRule.of(provider.get("retry") or {}),
        Signer(sync.display_name, provider, places_key) if provider else None,
    )


class _Run:
    """The run of a script, in one process or a second one."""

    def __init__(self, sync: Sync, path: str, digest: str, content: bytes, bundle: Mapping[str, Any]) -> None:
        self.checkpoint: Mapping[str, Any] | None = None
        """The checkpoint that was saved last."""
        # A script may declare metadata that it never reads; then a connection without any is as good.
        reads_metadata = b"getMetadata" in content
        self._sync = sync if reads_metadata else sync.model_copy(update={"metadata_model": None})
        self._path = path
        self._digest = digest
        self._content = content
        self._root = bundle["root"]
        self._provider = bundle["provider"]
        self._api = bundle["api"]

    def read(self, host: Host, context: SourceContext, sink: Sink) -> Ending:
        """Run the script. Raises HostLost where the process is gone."""
        self.checkpoint = context.checkpoint
        with ScriptExecution(self._sync, context, sink, api_of(self._sync, self._api, context)) as execution:
            members = Members(execution, self._provider)
            session = host.run(self._digest, self._content, self._facts(execution))
            with contextlib.closing(session):
                try:
                    self._serve(session, execution, members)
                except HostLost:
                    self.checkpoint = execution.checkpoint
                    raise
                except BaseException:  # also an interrupt: Node would go on without a listener
                    session.stop()
                    raise
            return execution.ending()

    def _facts(self, execution: ScriptExecution) -> dict[str, Any]:
        """The plain properties of `nango`."""
        # A query for each execution, which almost no script needs today.
        last = execution.last_sync_date if b"lastSyncDate" in self._content else None
        properties = {
            "variant": execution.variant,
            "connectionId": execution.connection_id,
            "providerConfigKey": execution.integration,
            "provider": self._provider,
            "syncId": self._sync.name,
            "isCLI": False,
        }
        return {"lastSyncDate": None if last is None else last.isoformat(), "properties": properties}

    def _serve(self, session: Session, execution: ScriptExecution, members: Members) -> None:
        """Answer the script's calls until it ends."""
        until = None if self._sync.max_duration is None else clock.monotonic() + self._sync.max_duration
        while True:
            message = session.next()
            if message is None:
                if execution.context.is_stopped():
                    raise Cancelled
                if until is not None and clock.monotonic() > until:
                    raise Incomplete(f"{self._sync.display_name}: stopped after max_duration; what was saved is kept.")
                continue
            header, body = message
            kind = header["t"]
            if kind == "call":
                self._answer(session, members, header, body)
            elif kind == "log":
                execution.log(str(header["text"]), str(header["level"]))
            elif kind == "done":
                return
            elif kind == "fail":
                raise self._failure(header["error"], execution, members)

    def _answer(self, session: Session, members: Members, header: Mapping[str, Any], body: bytes) -> None:
        try:
            value, content = members.call(header["m"], header["v"], body)
        except _FOR_SCRIPT as error:
            session.refuse(header["i"], {"message": str(error), "name": type(error).__name__})
        else:
            session.reply(header["i"], value, content)

    def _failure(self, error: Mapping[str, Any], execution: ScriptExecution, members: Members) -> Exception:
        """The error of a script, with its line and without secrets; an error of the API stays one."""
        original = members.errors.get(error.get("engine") or 0)
        frames = error.get("frames") or ()
        place = str(frames[0]) if frames else self._path
        sentence = str(original).rstrip(".") if original else f"{error['name']}: {error['message']}".rstrip(".: ")
        payload = error.get("payload")
        if payload is not None:
            sentence += f" {msgspec.json.encode(payload).decode()[:1000]}"
        sentence = f"{self._sync.display_name}: {place}: {sentence}.".replace(f"{self._root}/", "")
        sentence = execution.redact(sentence)
        if original is not None:
            return type(original)(sentence, original.status)
        return ScriptError(sentence)


def _has_values(text: Any, values: Mapping[str, Any]) -> bool:
    """Whether all placeholders of a template have values."""
    return all(
        values.get(name, MISSING) is not MISSING or dig(values, name) not in (MISSING, None, "")
        for name in placeholders([text])
    )
