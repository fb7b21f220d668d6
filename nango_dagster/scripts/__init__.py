"""Sync scripts: functions that send requests and save records; `ScriptExecution` is all that a script can do."""

from .calls import Call, ScriptAnswer
from .decorator import sync
from .execution import SCRIPT_ENDED, ScriptExecution
from .nango import ActionError, NangoSync
from .pagination import ScriptPage
from .python_source import PythonScript, models_of, script_of
from .records import Records
from .sending import Api

__all__ = [
    "SCRIPT_ENDED",
    "ActionError",
    "Api",
    "Call",
    "NangoSync",
    "PythonScript",
    "Records",
    "ScriptAnswer",
    "ScriptExecution",
    "ScriptPage",
    "models_of",
    "script_of",
    "sync",
]
