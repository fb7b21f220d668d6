"""The inputs of an execution: the list of a config, or the value of a user's asset; `Source` is their contract."""

from .declarative import DeclarativeList, FetchedList, source_of
from .incremental_list import IncrementalList
from .source import Checkpoint, Ending, Model, Numbers, Sink, Source, SourceContext
from .user_value import UserValue

__all__ = [
    "Checkpoint",
    "DeclarativeList",
    "Ending",
    "FetchedList",
    "IncrementalList",
    "Model",
    "Numbers",
    "Sink",
    "Source",
    "SourceContext",
    "UserValue",
    "source_of",
]
