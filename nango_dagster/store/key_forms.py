"""Keys that only look alike: 1 and "1" are two keys with one text; and the form that an API gives its keys."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import Connection

from ..config import Sync, TrackDeletes
from ..errors import RecordRejected, Refused
from ..records import NUMBER_AS_TEXT, KeyReader, QuotedKey
from . import datasets
from .database import Database
from .datasets import Dataset
from .key_sets import KeySet
from .rows import KnownRecord
from .vanished import Vanished

_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_PREFIX = re.compile(r"[A-Za-z]+[_:/-]")
_HEX_32 = re.compile(r"[0-9a-f]{32}")
_UUID_SIGNS = re.compile(r"[{}-]")
_FEWEST = 5  # records that show which form the keys have
_CERTAIN = 5  # so many stored keys in another spelling are no accident
_BY_NEW_KEYS = "If these are the source's keys from now on, run the sync once with --empty-cache."


class KeyForms:
    """The forms of the keys that an execution reads, compared with each other and with those of the stored records."""

    def __init__(
        self, database: Database, sync: Sync, dataset: Dataset, read_keys: KeyReader, vanished: Vanished
    ) -> None:
        self.noted_types = dataset.key_types
        """The types that the dataset has, as text."""
        self._database = database
        self._sync = sync
        self._dataset_id = dataset.id
        self._read_keys = read_keys
        self._vanished = vanished
        self._has_other_key = vanished.has_other_key
        self._read = KeyTypes(vanished.seen)
        # The stored keys of another unique_key are no others of these.
        self._stored_types = frozenset() if self._has_other_key else _types_of(dataset.key_types)
        # A script makes its keys itself, and may give each kind of record its own form.
        self._is_checked = dataset.live_count < _FEWEST or sync.script is not None
        # Nango makes all ids texts, so that to a TypeScript script 1 and "1" are one key.
        self._is_alike = sync.script_language == "typescript"

    @property
    def types(self) -> str:
        """The types of all keys, stored and read, as a dataset has them."""
        return _types_as_text(self._stored_types | self._read.types)

    def conflicts(self, keys: Sequence[str | RecordRejected]) -> list[int]:
        """The positions of keys whose text is that of an earlier key with another JSON type."""
        return [] if self._is_alike else self._read.conflicts(keys)

    def check(self, batch: Mapping[str, bytes], known: Mapping[str, KnownRecord | None]) -> None:
        """Raise Refused when the first records show that the API has changed the form of all its keys.

        Their JSON type is another one than that of the stored keys; or all of them are new, and are the stored ones in
        another form, so that every record would be stored twice.
        """
        if self._is_checked:
            return
        self._is_checked = True
        is_accepted = (self._sync.track_deletes or TrackDeletes()).max_fraction >= 1
        types = self._read.types
        if types and self._stored_types and types.isdisjoint(self._stored_types):
            numbers = [key for key in batch if _is_number(key)]
            if len(numbers) >= _FEWEST and not is_accepted:
                raise _other_types(self._sync, min(numbers), is_text=True in types)
            if len(numbers) >= _FEWEST:
                self._stored_types = types
        if not (is_accepted or self._has_other_key or len(known) < len(batch) or any(known.values())):
            with self._database.ask() as connection:
                stored = self._database.rows.raw(connection, self._dataset_id).some_keys()
            check_form(self._sync, list(batch), stored)

    def of_another_type(self, batch: Mapping[str, bytes], known: Mapping[str, KnownRecord | None]) -> list[str]:
        """The keys of changed records that are numbers where the stored record's key is a text, or the reverse."""
        if len(self._read.types | self._stored_types) < 2:
            return []
        changed = [key for key, old in known.items() if old and not old.is_deleted and _is_number(key)]
        with self._database.ask() as connection:
            stored = self._database.rows.raw(connection, self._dataset_id).texts(changed) if changed else {}
        old_keys = self._read_keys(list(stored.values()))
        new_keys = self._read_keys([batch[key] for key in stored])
        return [key for key, old, new in zip(stored, old_keys, new_keys, strict=True) if type(old) is not type(new)]

    def note(self, connection: Connection, types: str) -> None:
        """Note the types of the keys, and a changed `unique_key`, on the dataset, in the records' transaction."""
        self._vanished.note_key(connection)
        if types != self.noted_types:
            datasets.note_key_types(connection, self._dataset_id, types)

    def close(self) -> None:
        """Delete the temporary file."""
        self._read.close()


class KeyTypes:
    """Finds keys of one execution that differ only in their JSON type, such as 1 and "1".

    >>> types = KeyTypes(KeySet())
    >>> types.conflicts(["1", "2", QuotedKey("1")])
    [2]
    """

    def __init__(self, seen: KeySet) -> None:
        """`seen` has the texts of all keys of the batches before."""
        self.types: frozenset[bool] = frozenset()
        """The types of the keys so far that are numbers, or look like one: True for texts, False for numbers."""
        self._seen = seen
        self._usual: bool | None = None  # whether the keys that look like numbers are texts; None before the first
        self._unusual: KeySet | None = None  # the others, once there are both

    def conflicts(self, keys: Sequence[str | RecordRejected]) -> list[int]:
        """The positions of keys whose text is that of an earlier key with another JSON type."""
        types = {key.__class__ is QuotedKey for key in keys if _is_ambiguous(key)}
        if not types <= self.types:
            numbers = any(key.__class__ is str and _is_number(str(key)) for key in keys)
            self.types |= {is_text for is_text in types if is_text or numbers}
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
    """Whether the key may be a number, or a text that looks like one."""
    return key.__class__ is QuotedKey or (key.__class__ is str and key[0] in "-0123456789")


# --- forms ----------------------------------------------------------------------------------------------------------


def form_of(key: str) -> str:
    """The form of a key, as coarse as it takes to tell one numbering from another.

    >>> [form_of(key) for key in ("17", "usr_17", "ann@example.com", '[7,"a"]')]
    ['number', 'usr_', 'text', '[number,text]']
    """
    if _NUMBER.fullmatch(key):
        return "number"
    if _UUID.fullmatch(key):
        return "uuid"
    if key.startswith("["):  # of several fields
        return f"[{','.join(map(_type_of, _values(key)))}]"
    prefix = _PREFIX.match(key)
    return prefix[0] if prefix else "text"


def _values(key: str) -> Sequence[object]:
    try:
        values = json.loads(key)
    except ValueError:
        return ()
    return values if isinstance(values, list) else ()


def _type_of(value: object) -> str:
    return "text" if isinstance(value, str) else "number" if isinstance(value, int | float) else "other"


def check_form(sync: Sync, keys: Sequence[str], stored: Sequence[str]) -> None:
    """Raise Refused when new keys are the stored ones in another form: each record would be stored twice.

    Either none of the keys has the form of a stored one, or they are stored ones in another spelling.
    """
    spellings = {_spelling(key): key for key in keys}
    pairs = [(spellings[_spelling(key)], key) for key in stored if _spelling(key) in spellings]
    if len(pairs) < _CERTAIN and not {form_of(key) for key in keys}.isdisjoint(form_of(key) for key in stored):
        return
    new, old = pairs[0] if pairs else (min(keys), stored[0])
    raise Refused(
        f'{sync.display_name}: the keys have another form than the stored ones: "{new}", where "{old}" is '
        f"stored; nothing was written, as each record would be stored twice. {_BY_NEW_KEYS}"
    )


def _is_number(text: str) -> bool:
    """Whether the text is one that the key of a JSON number has."""
    return (text.isdigit() or text[:1] == "-" or "." in text) and NUMBER_AS_TEXT(text) is not None


def _spelling(key: str) -> str:
    """A key without what two spellings of it may differ in: case, space around it, leading zeros, signs of a UUID.

    >>> _spelling("007"), _spelling("{6FA459EA-EE8A-3CA4-894E-DB77E160355E}"), _spelling("a-1")
    ('7', '6fa459eaee8a3ca4894edb77e160355e', 'a-1')
    """
    text = key.strip().casefold()
    if text.isdigit():
        return text.lstrip("0")
    digits = _UUID_SIGNS.sub("", text)
    return digits if _HEX_32.fullmatch(digits) else text


def _types_as_text(types: Collection[bool]) -> str:
    """The JSON types of the keys that are numbers or look like one, as a dataset keeps them.

    >>> _types_as_text({True, False}), _types_as_text([])
    ('number,text', '')
    """
    return ",".join("text" if is_text else "number" for is_text in sorted(types))


def _types_of(text: str) -> frozenset[bool]:
    """The types of `_types_as_text`: True for texts, False for numbers."""
    return frozenset(name == "text" for name in text.split(",") if name)


def _other_types(sync: Sync, key: str, *, is_text: bool) -> Refused:
    """The error of a list whose keys all have another JSON type than the stored ones."""
    new, old = (f'"{key}"', key) if is_text else (key, f'"{key}"')
    return Refused(
        f"{sync.display_name}: the keys have another JSON type than the stored ones: {new}, where {old} is stored; "
        f"nothing was written, as readers would get other ids. {_BY_NEW_KEYS}"
    )
