"""Keys that only look alike: 1 and "1" are two keys with one text; and the form that an API gives its keys."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..config import Sync
from ..errors import RecordRejected, Refused
from ..records import QuotedKey
from .key_sets import KeySet

_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_PREFIX = re.compile(r"[A-Za-z]+[_:/-]")


def form_of(key: str) -> str:
    """The form of a key, as coarse as it takes to tell one numbering from another.

    >>> [form_of(key) for key in ("17", "usr_17", "ann@example.com")]
    ['number', 'usr_', 'text']
    """
    if _NUMBER.fullmatch(key):
        return "number"
    if _UUID.fullmatch(key):
        return "uuid"
    prefix = _PREFIX.match(key)
    return prefix[0] if prefix else "text"


def check_form(sync: Sync, keys: Sequence[str], stored: Sequence[str]) -> None:
    """Raise Refused when none of the keys has the form of a stored one: each record would be stored twice."""
    if not {form_of(key) for key in keys}.isdisjoint(form_of(key) for key in stored):
        return
    raise Refused(
        f'{sync.display_name}: the keys have another form than the stored ones: "{min(keys)}", where "{stored[0]}" is '
        "stored; nothing was written, as each record would be stored twice. If these are the source's keys from now "
        "on, run the sync once with --empty-cache."
    )


class KeyTypes:
    """Finds keys of one execution that differ only in their JSON type, such as 1 and "1".

    >>> types = KeyTypes(KeySet())
    >>> types.conflicts(["1", "2", QuotedKey("1")])
    [2]
    """

    def __init__(self, seen: KeySet) -> None:
        """`seen` has the texts of all keys of the batches before."""
        self._seen = seen
        self._usual: bool | None = None  # whether the keys that look like numbers are texts; None before the first
        self._unusual: KeySet | None = None  # the others, once there are both

    def conflicts(self, keys: Sequence[str | RecordRejected]) -> list[int]:
        """The positions of keys whose text is that of an earlier key with another JSON type."""
        types = {key.__class__ is QuotedKey for key in keys if _is_ambiguous(key)}
        if self._usual is None and types:
            self._usual = types == {True}
        if self._unusual is None:
            if types <= {self._usual}:
                return []
            self._unusual = KeySet()
        return self._conflicts(keys, self._unusual)

    def _conflicts(self, keys: Sequence[str | RecordRejected], unusual: KeySet) -> list[int]:
        conflicts = []
        types: dict[str, bool] = {}
        for position, key in enumerate(keys):
            if isinstance(key, RecordRejected) or not _is_ambiguous(key):
                continue
            is_text = key.__class__ is QuotedKey
            if types.setdefault(str(key), self._type_before(key, unusual, is_text)) != is_text:
                conflicts.append(position)
        unusual.add([key for key, is_text in types.items() if is_text != self._usual])
        return conflicts

    def _type_before(self, key: str, unusual: KeySet, is_text: bool) -> bool:
        """Whether the key was a text in the batches before; `is_text` where it was in none."""
        assert self._usual is not None
        if not unusual.missing([key]):
            return not self._usual
        return is_text if self._seen.missing([key]) else self._usual

    def close(self) -> None:
        """Delete the temporary file."""
        if self._unusual is not None:
            self._unusual.close()


def _is_ambiguous(key: str | RecordRejected) -> bool:
    """Whether the key is a number, or a text that looks like one."""
    return key.__class__ is QuotedKey or (key.__class__ is str and key[0] in "-0123456789")
