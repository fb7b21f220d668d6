"""Files compressed with gzip that are the content itself, rather than a compressed transfer."""

from __future__ import annotations

import zlib
from typing import Final

from ..errors import ApiError

SIGNATURE: Final = b"\x1f\x8b"
_CHUNK: Final = 1 << 20


def unpacked(content: bytes, max_bytes: int) -> bytes:
    """The content of a gzip file, of several members too. Raises ApiError when it is broken or too long.

    At most `max_bytes` and a chunk of it are ever in memory.
    """
    chunks: list[bytes] = []
    left = max_bytes
    rest = content
    while rest.startswith(SIGNATURE):
        member = zlib.decompressobj(wbits=31)
        data = rest
        while not member.eof:
            chunk = _decompressed(member, data)
            data = member.unconsumed_tail
            if not chunk and not data and not member.eof:
                raise ApiError("the response is a gzip file that ends too early.")
            chunks.append(chunk)
            left -= len(chunk)
            if left < 0:
                raise ApiError(f"the response is a gzip file of more than {max_bytes:,} bytes, its max_page_bytes.")
        rest = member.unused_data
    if rest.strip(b"\0"):  # zeros may pad a file
        raise ApiError("the response is a gzip file with other data behind it.")
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _decompressed(member: zlib._Decompress, data: bytes) -> bytes:
    try:
        return member.decompress(data, _CHUNK)
    except zlib.error:
        raise ApiError("the response is a broken gzip file.") from None
