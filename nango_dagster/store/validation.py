"""The records of an execution are compared with their model before they are stored, whatever source they come from."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence

import msgspec

from ..config import Sync
from ..errors import ModelMismatch, RecordRejected
from ..models import RecordModel, misfit, validator
from ..records import decode
from ..sentences import number_of
from .tally import Tally

_MOST_NAMED = 5
_decode = msgspec.json.Decoder().decode


class Places:
    """The places in a script that saved the records of a batch.

    A place is that of all records from its position up to the next place.

    >>> places = Places()
    >>> places.add(0, "of the yield, issues.py line 12")
    >>> places.of(7), Places().of(7)
    (' in a record of the yield, issues.py line 12', '')
    """

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._places: list[str] = []

    def add(self, start: int, place: str) -> None:
        """Note the place of the records from this position on."""
        self._starts.append(start)
        self._places.append(place)

    def of(self, position: int) -> str:
        """The end of a sentence about a record; empty where no place is known."""
        index = bisect_right(self._starts, position) - 1
        return f" in a record {self._places[index]}" if index >= 0 else ""


class Validation:
    """Compares the records of one sync with its model, as `validate` in the config says."""

    def __init__(self, sync: Sync, model: RecordModel) -> None:
        self._sync = sync
        self._model = model
        self._schema = validator(model.json_schema)

    @classmethod
    def of(cls, sync: Sync) -> Validation | None:
        """That of a sync; None where its records have no model."""
        model = sync.record_model
        return None if model is None else cls(sync, model)

    def rejected(self, texts: Sequence[bytes], tally: Tally, places: Places) -> dict[int, str]:
        """The positions of the records that must not be stored, and why; all misfits are counted.

        `places` are the places in a script that saved the records; the reasons name them.

        Raises ModelMismatch where the config has `validate: fail` and a record does not fit.
        """
        misfits = {
            at: f"{reason}{places.of(at)}"
            for at, text in enumerate(texts)
            if (reason := self._misfit(text)) is not None
        }
        if not misfits:
            return misfits
        tally.misfits.update(misfits.values())
        if self._sync.validate == "fail":
            raise ModelMismatch(
                f"{self._sync.display_name}: {sentence(self._model.name, tally.misfits)} With validate: fail nothing "
                "of their batch is stored. Correct the model, or set validate to warn or reject."
            )
        return misfits if self._sync.validate == "reject" else {}

    def _misfit(self, text: bytes) -> str | None:
        try:
            value = _decode(text)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            try:
                value = decode(text)
            except RecordRejected:
                return None  # the writer rejects it
        return misfit(self._schema, value)


def sentence(model: str, misfits: Counter[str]) -> str:
    """How many records do not fit a model, and the most frequent reasons.

    >>> sentence("Contact", Counter({"email is missing": 2, "id is a string; wanted integer": 1}))
    '3 records do not fit the model Contact: email is missing (2), id is a string; wanted integer (1).'
    """
    reasons = [f"{reason} ({count:,})" for reason, count in misfits.most_common(_MOST_NAMED)]
    more = f", and {len(misfits) - _MOST_NAMED:,} more reasons" if len(misfits) > _MOST_NAMED else ""
    total = misfits.total()
    verb = "does" if total == 1 else "do"
    return f"{number_of(total, 'record')} {verb} not fit the model {model}: {', '.join(reasons)}{more}."
