"""The models of records: what a record consists of, as JSON Schema, and what follows from that.

>>> from dataclasses import dataclass
>>> @dataclass
... class Contact:
...     id: int
...     email: str | None = None
>>> model = record_model(Contact)
>>> model.name, [(field.name, field.kind) for field in model.fields]
('Contact', [('id', 'number'), ('email', 'string')])
>>> model.misfit(b'{"id": 7, "email": 5}')
'email is a number; wanted string or null'
"""

from .definitions import schema_of
from .fields import ModelField, fields_of
from .record_model import RecordModel, record_model
from .validation import misfit, validator

__all__ = ["ModelField", "RecordModel", "fields_of", "misfit", "record_model", "schema_of", "validator"]
