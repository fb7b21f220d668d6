"""The inputs of an execution: the list of a config, or the value of a user's asset; `Source` is their contract."""

from .declarative import DeclarativeList, FetchedList, source_of
from .for_each import ForEachList, ParentAccess
from .incremental_list import IncrementalList
from .source import (
    PARENTS_READ,
    Ending,
    Model,
    Numbers,
    Parent,
    Services,
    Settled,
    Sink,
    Source,
    SourceContext,
)
from .user_value import UserValue

__all__ = [
    "PARENTS_READ",
    "DeclarativeList",
    "Ending",
    "FetchedList",
    "ForEachList",
    "IncrementalList",
    "Model",
    "Numbers",
    "Parent",
    "ParentAccess",
    "Services",
    "Settled",
    "Sink",
    "Source",
    "SourceContext",
    "UserValue",
    "source_of",
]
