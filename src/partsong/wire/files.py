"""Parses files in requests: PDFs and text files, as `data:` URLs or base64, into parts of a message.

Only the base64 is checked here. The file's text is extracted later, once the request is admitted. A file cannot be
larger than the body of its request, whose size is limited.
"""

import binascii

from partsong.errors import RequestError
from partsong.model import CacheControl, Document
from partsong.wire.coded import decoded

UNNAMED = "application/octet-stream"  # the media type that browsers send for a type that they do not know


def parse_file(url: str, name: str, where: str, cache_control: CacheControl = "") -> Document:
    """Return the file in a `data:` URL, or in base64 without a URL.

    url: the `data:` URL or the base64
    name: the file's name; "" for none
    where: path of the field in the request, for the error
    cache_control: cache mark of the part; "" (default) for none

    Raises `RequestError` for an http(s) URL, and for a file that is empty or no base64.
    """
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
    """Return the file in base64.

    data: the base64
    media_type: the file's media type; "" if unknown
    name: the file's name; "" for none
    where: path of the field in the request, for the error
    cache_control: cache mark of the part; "" (default) for none

    Raises `RequestError` if the file is empty or no base64.
    """
    try:
        content = decoded(data)
    except (binascii.Error, ValueError) as problem:
        raise RequestError(f"{where}: is no base64: {problem}", where) from None
    if not content:
        raise RequestError(f"{where}: there is nothing in the file", where)
    kind = media_type.strip().lower()
    return Document(content, "" if kind == UNNAMED else kind, name, cache_control=cache_control)
