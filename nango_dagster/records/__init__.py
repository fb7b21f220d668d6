"""A response body becomes records; a record becomes Python values, a key and hashes."""

from .decoding import decode, encode, is_utf8
from .document import Document, described
from .envelope import Envelope, Rejected, Shape, fields_of, read
from .hashes import byte_hash, content_hash, content_hash_of
from .keys import MAX_KEY_BYTES, NUMBER_AS_TEXT, KeyReader, QuotedKey, has_id, key_reader, token_reader
from .raw_json import parts_of, text_at, with_fields
from .refusals import said

__all__ = [
    "MAX_KEY_BYTES",
    "NUMBER_AS_TEXT",
    "Document",
    "Envelope",
    "KeyReader",
    "QuotedKey",
    "Rejected",
    "Shape",
    "byte_hash",
    "content_hash",
    "content_hash_of",
    "decode",
    "described",
    "encode",
    "fields_of",
    "has_id",
    "is_utf8",
    "key_reader",
    "parts_of",
    "read",
    "said",
    "text_at",
    "token_reader",
    "with_fields",
]
