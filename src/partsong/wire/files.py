"""Files in requests: PDFs and files of text, as `data:` URLs or base64, which become parts of a message.

Only the base64 is checked here. What a file says is read later, once the request may cost something. A file is no
larger than the body of its request, which is bounded.
"""

import base64
import binascii

from partsong.errors import RequestError
from partsong.model import CacheControl, Document

UNNAMED = "application/octet-stream"  # what browsers call a type that they do not know


def parse_file(url: str, name: str, where: str, cache_control: CacheControl = "") -> Document:
    """The file in a `data:` URL, or in base64 alone. Raises `RequestError` for an address elsewhere."""
    if url.startswith(("https://", "http://")):
        raise RequestError(f"{where}: no file is fetched from elsewhere; send it as a data: URL", where)
    if not url.startswith("data:"):
        return file_of(url, "", name, where, cache_control)
    head, comma, data = url.partition(",")
    media_type, *parameters = head.removeprefix("data:").split(";")
    if not comma or "base64" not in parameters:
        raise RequestError(f"{where}: must be base64, as in data:application/pdf;base64,…", where)
    return file_of(data, media_type, name, where, cache_control)


def file_of(data: str, media_type: str, name: str, where: str, cache_control: CacheControl = "") -> Document:
    """The file whose base64 this is."""
    try:
        content = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as problem:
        raise RequestError(f"{where}: is no base64: {problem}", where) from None
    if not content:
        raise RequestError(f"{where}: there is nothing in the file", where)
    kind = media_type.strip().lower()
    return Document(content, "" if kind == UNNAMED else kind, name, cache_control=cache_control)
