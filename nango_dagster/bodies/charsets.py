"""Text in any declared charset becomes UTF-8."""

from __future__ import annotations

import codecs
import re
from typing import Final

from ..errors import ApiError

BOM: Final = codecs.BOM_UTF8
_CHARSET: Final = re.compile(r"""charset\s*=\s*["']?([^"';\s]+)""", re.IGNORECASE)
# A codec has to be one of these: Python also has codecs that are no charsets, or take quadratic time.
_ALLOWED: Final = re.compile(
    r"utf-(8|16|32)(-[bl]e)?|ascii|iso8859-\d+|cp\d+|koi8-[rtu]|mac-\w+|tis-620"
    r"|shift_jis(x?_?\w*)|euc_(jp|kr|jis_2004|jisx0213)|iso2022_\w+|gb2312|gbk|gb18030|hz|big5(hkscs)?|johab|kz1048"
)
# As browsers do: pages that say Latin-1 or ASCII mean Windows' extension of it (the Encoding standard, section 4.2).
_AS_WINDOWS: Final = frozenset({"iso8859-1", "ascii"})


def as_utf8(content: bytes, content_type: str) -> bytes:
    """The text in UTF-8 without a byte order mark; a mark counts more than the Content-Type.

    Text that says it is UTF-8, or says nothing, is returned as it is: a record that is no UTF-8 costs only itself.
    Raises ApiError for a charset that is unknown, or that the text does not have.

    >>> as_utf8("[1]".encode("utf-16"), "application/json; charset=utf-16")
    b'[1]'
    >>> as_utf8(b'["K\\xf6ln"]', "application/json; charset=ISO-8859-1").decode()
    '["Köln"]'
    """
    if content.startswith(BOM):
        return content[len(BOM) :]
    name = _marked(content) or _declared(content_type, content)
    if name is None:
        return content
    try:
        if name in _AS_WINDOWS:
            name = "cp1252" if _decodes(content, "cp1252") else "iso8859-1"
        # A half of a surrogate pair stays what it is; the record that holds it is rejected alone.
        return content.decode(name).removeprefix("\ufeff").encode(errors="surrogatepass")
    except UnicodeError:
        raise ApiError(f"the response says that its charset is {name}, and is no {name} text.") from None


def _marked(content: bytes) -> str | None:
    """UTF-32 or UTF-16 by a byte order mark, or by where the zero bytes of the first two ASCII characters are."""
    first = content[:4]
    for mark, name in (
        (codecs.BOM_UTF32_LE, "utf-32"),
        (codecs.BOM_UTF32_BE, "utf-32"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if first.startswith(mark):
            return name
    if len(first) < 4 or 0 not in first:
        return None
    zeros = tuple(byte == 0 for byte in first)
    names: dict[tuple[bool, ...], str] = {
        (False, True, True, True): "utf-32-le",
        (True, True, True, False): "utf-32-be",
        (False, True, False, True): "utf-16-le",
        (True, False, True, False): "utf-16-be",
    }
    return names.get(zeros)


def _declared(content_type: str, content: bytes) -> str | None:
    """The codec of the charset in the Content-Type; None where that is UTF-8 or missing."""
    match = _CHARSET.search(content_type)
    if match is None:
        return None
    try:
        name = codecs.lookup(match[1]).name
    except (LookupError, ValueError):
        name = ""
    if name == "utf-8":
        return None
    if _ALLOWED.fullmatch(name):
        return name
    if _decodes(content, "utf-8"):
        return None
    raise ApiError(f'the response has the charset "{match[1][:40]}", which is unknown here, and is no UTF-8.')


def _decodes(content: bytes, name: str) -> bool:
    try:
        content.decode(name)
    except UnicodeError:
        return False
    return True
