"""A sync script in Python as the source of an execution."""

from __future__ import annotations

import inspect
import os
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import GeneratorType
from typing import Any

from ..config import Sync
from ..config.scripts import load_function
from ..errors import Cancelled, NangoError, ScriptError
from ..sources import Ending, Model, Sink, SourceContext
from .execution import ScriptExecution, model_names
from .fence import FencedSink
from .garbage import older_objects_exempt
from .nango import NangoSync
from .output import printing_to
from .watchdog import Limits, run_watched


def script_of(sync: Sync, folder: Path, most_bytes: int | None = None) -> PythonScript:
    """The script of a sync, which is loaded when it is read; `most_bytes` is the limit of the process's memory."""
    return PythonScript(sync, folder, most_bytes=most_bytes)


@dataclass(frozen=True)
class PythonScript:
    """The script of a sync."""

    sync: Sync
    folder: Path
    function: Callable[..., Any] | None = None
    """The function itself, where it is not to be loaded."""
    most_bytes: int | None = None
    """The memory that the process may use; None for no limit."""
    needs_access: bool = True

    @property
    def models(self) -> tuple[Model, ...]:
        """Its models; none where that is the one of the config."""
        return models_of(self.sync)

    def read(self, context: SourceContext, sink: Sink) -> Ending:
        """Call the function, and save what it yields.

        Raises what it raised: an error of this package with the line of the script, and ScriptError for any other.
        """
        function = self.function or load_function(self.sync.script or "", self.folder)
        file = inspect.unwrap(function).__code__.co_filename if hasattr(function, "__code__") else None
        limits = Limits(self.sync.display_name, file, self.sync.max_duration, context.is_stopped, self.most_bytes)
        fence = FencedSink(sink)
        with older_objects_exempt(), ScriptExecution(self.sync, context, fence) as execution:

            def script() -> Ending:
                with printing_to(execution.log):
                    return run(function, execution, file)

            try:
                return run_watched(script, limits, fence)
            except Cancelled:
                raise
            except NangoError as error:
                raise located(error, file) from error.__cause__
            except (Exception, SystemExit) as error:
                raise foreign_error(self.sync, error, file) from error


def models_of(sync: Sync) -> tuple[Model, ...]:
    """The models of a script that has several; none where that is the one of the config."""
    if len(sync.models) < 2:
        return ()
    mapped = sync.mapped_table
    return tuple(
        Model(name, sync.unique_key, mapped if name == sync.model else None, sync.track_deletes)
        for name in model_names(sync)
    )


def run(function: Callable[..., Any], execution: ScriptExecution, file: str | None) -> Ending:
    """Call a script's function with `nango` to its end."""
    nango = NangoSync(execution, file)
    result = function(nango)
    if inspect.isgenerator(result):
        _save_all(result, nango)
    elif inspect.iscoroutine(result) or inspect.isasyncgen(result):
        close = getattr(result, "close", None)
        if close is not None:
            close()
        raise ScriptError("the function of a sync is async; wanted a plain function.")
    elif result is not None:
        execution.warn(f"the script returned {type(result).__name__}, which is ignored; yield records to save them.")
    return execution.ending()


def _save_all(script: GeneratorType[object, Any, object], nango: NangoSync) -> None:
    """Save what a script yields; an error of that is raised at its `yield`."""
    try:
        yielded = next(script)
        while True:
            try:
                frame = script.gi_frame
                nango.take(yielded, frame.f_lineno if frame else 0)
            except Exception as error:  # the script may handle any of them, as after a call of batch_save
                yielded = script.throw(error)
            else:
                yielded = next(script)
    except StopIteration:
        return
    finally:
        script.close()


def foreign_error(sync: Sync, error: BaseException, file: str | None) -> ScriptError:
    """The error of a script that raised one of its own."""
    message = " ".join(str(error).split())
    place = place_of(error, file)
    sentence = f"{type(error).__name__}{': ' if message else ''}{message[:500]}"
    return ScriptError(f"{sync.display_name}: {place or 'the script'}: {sentence}")


def located(error: NangoError, file: str | None) -> NangoError:
    """An error of this package with the line of the script that led to it."""
    place = place_of(error, file)
    if place is not None and not str(error).endswith(f"({place})"):
        error.args = (f"{error} ({place})",)
    return error


def place_of(error: BaseException, file: str | None) -> str | None:
    """The line of the script at which an error came up, as `issues.py, line 12`."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f"{os.path.basename(file)}, line {lines[-1]}" if lines and file is not None else None
