"""What an execution reads: the list of a config, or the value of a user's asset; `Source` is their contract."""

from .declarative import DeclarativeList, FetchedList
from .source import Checkpoint, Ending, Model, Numbers, Sink, Source, SourceContext
from .user_value import UserValue

__all__ = [
    "Checkpoint",
    "DeclarativeList",
    "Ending",
    "FetchedList",
    "Model",
    "Numbers",
    "Sink",
    "Source",
    "SourceContext",
    "UserValue",
]
