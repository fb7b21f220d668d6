"""Which format a body has: by its Content-Type or file name where these are certain, else a guess for an error."""

from __future__ import annotations

import csv
from typing import Final, Literal
from urllib.parse import unquote, urlsplit

import msgspec

Format = Literal["json", "jsonl", "csv", "tsv"]
"""The formats that a sync's `format` can name."""

FORMAT_NAMES: Final = {"json": "JSON", "jsonl": "JSON lines", "csv": "CSV", "tsv": "tab-separated values"}

# Registered types, and those in common use. JSON itself is not among them: many servers call everything JSON.
_BY_MEDIA_TYPE: Final[dict[str, Format]] = {
    **dict.fromkeys(
        (
            "application/x-ndjson",
            "application/ndjson",
            "application/jsonl",
            "application/x-jsonl",
            "application/jsonlines",
            "application/x-jsonlines",
            "application/json-lines",
            "application/json-seq",
            "application/x-json-stream",
            "application/stream+json",
            "text/x-ndjson",
            "text/ndjson",
            "text/jsonl",
        ),
        "jsonl",
    ),
    **dict.fromkeys(("text/csv", "application/csv", "text/x-csv"), "csv"),
    **dict.fromkeys(("text/tab-separated-values", "text/tsv"), "tsv"),
}
_BY_FILE_NAME: Final[dict[str, Format]] = {
    "json": "json",
    "jsonl": "jsonl",
    "ndjson": "jsonl",
    "csv": "csv",
    "tsv": "tsv",
}
_SIGNATURES: Final = {
    b"PK\x03\x04": "a ZIP file",
    b"%PDF": "a PDF file",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ": "an xz file",
    b"\x28\xb5\x2f\xfd": "a zstd file",
    b"PAR1": "a Parquet file",
    b"Obj\x01": "an Avro file",
}
_SAMPLE: Final = 100_000  # bytes that a guess looks at
_is_json = msgspec.json.Decoder(msgspec.Raw).decode


def declared_format(content_type: str, url: str, *, is_file: bool = False) -> Format | None:
    """The format that the Content-Type says, or the file name at the end of the URL; None where neither is certain.

    A file name counts where the Content-Type says nothing about the content, or for a compressed file.

    >>> declared_format("text/csv; charset=utf-8", ""), declared_format("application/json", "https://a.example/b.csv")
    ('csv', None)
    >>> declared_format("application/gzip", "https://a.example/events.jsonl.gz?signature=x", is_file=True)
    'jsonl'
    """
    media_type = content_type.partition(";")[0].strip().lower()
    if (named := _BY_MEDIA_TYPE.get(media_type)) is not None:
        return named
    if not is_file and media_type not in ("", "application/octet-stream", "binary/octet-stream"):
        return None
    name = unquote(urlsplit(url).path).rpartition("/")[2].lower().removesuffix(".gz").removesuffix(".gzip")
    return _BY_FILE_NAME.get(name.rpartition(".")[2]) if "." in name else None


def is_json_lines(text: bytes) -> bool:
    """Whether the first line is a whole JSON value, and another line begins with one.

    >>> is_json_lines(b'{"id": 1}\\n{"id": 2}\\n'), is_json_lines(b'{"id":\\n1}')
    (True, False)
    """
    end = text.find(b"\n")
    if end <= 0 or text[:1] not in (b"{", b"["):
        return False
    following = text[end : end + _SAMPLE].lstrip()[:1]
    return following == text[:1] and is_json(text[:end])


def is_json(text: bytes) -> bool:
    """Whether the text is one whole JSON value; text that is not UTF-8 inside of its strings passes."""
    try:
        _is_json(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def refusal(text: bytes, content_type: str) -> str:
    """A sentence about a body that is not the JSON that was wanted: what it is, and which field would read it."""
    if not text.strip():
        return "the response is empty; wanted JSON."
    for signature, name in _SIGNATURES.items():
        if text.startswith(signature):
            return f"the response is {name}; wanted JSON, JSON lines or CSV, also in a gzip file."
    if text.lstrip()[:1] == b"<":
        return "the response is HTML or XML; wanted JSON, JSON lines or CSV."
    if (delimiter := _delimiter_of_table(text)) is not None:
        name = "tsv" if delimiter == "\t" else "csv"
        return f"the response looks like {FORMAT_NAMES[name]}; if it is, set format: {name}."
    media_type = content_type.partition(";")[0].strip() or "no Content-Type"
    return f"the response is no JSON object or list ({media_type}); the field format says how to read other formats."


def _delimiter_of_table(text: bytes) -> str | None:
    """The delimiter of a text whose first lines all have the same number of cells, at least two."""
    sample = text[:_SAMPLE].decode(errors="replace")
    if "\x00" in sample or len(text.split(b"\n", 2)) < 2:
        return None
    lines = sample.splitlines()[:5]
    for delimiter in ("\t", ",", ";"):
        try:
            widths = {len(row) for row in csv.reader(lines, delimiter=delimiter) if row}
        except csv.Error:
            continue
        if len(widths) == 1 and widths.pop() > 1:
            return delimiter
    return None
