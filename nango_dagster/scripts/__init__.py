"""Sync scripts: functions that send requests and save records; `ScriptExecution` is all that a script can do."""

from .calls import Call, ScriptAnswer
from .decorator import sync
from .execution import SCRIPT_ENDED, ScriptExecution
from .fixture_folders import FILE_SUFFIX, fixtures_in
from .fixtures import Fixture, Recorder, Replay
from .nango import ActionError, NangoSync
from .pagination import ScriptPage
from .python_source import PythonScript, models_of, script_of
from .records import Records
from .sending import Api
from .trial import TrialInput, TrialResult, try_script

__all__ = [
    "FILE_SUFFIX",
    "SCRIPT_ENDED",
    "ActionError",
    "Api",
    "Call",
    "Fixture",
    "NangoSync",
    "PythonScript",
    "Recorder",
    "Records",
    "Replay",
    "ScriptAnswer",
    "ScriptExecution",
    "ScriptPage",
    "TrialInput",
    "TrialResult",
    "fixtures_in",
    "models_of",
    "script_of",
    "sync",
    "try_script",
]
