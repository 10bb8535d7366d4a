"""The one rule for ids: what a text must be to name a model, a run, a response, a caller, or anything else.

An id is looked up, logged, printed and sent in headers. So an id has no character that a reader cannot see: no control
characters, no characters of direction or of no width, no separators of lines, and no half of a surrogate pair. Such
characters make two different ids look the same, or a line of a log look like two. Ids also have a length.
"""

import unicodedata

from partsong.errors import RequestError

LONGEST_MODEL = 16_384  # bytes of a model's id: an id of a scripted model holds the whole answer
LONGEST_NAME = 128  # bytes of the name of a provider in the configuration
SHOWN = 60  # characters of a wrong id that a message repeats

# Letters without a glyph. Unicode calls them default ignorable, but no category has them all.
_INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
_KINDS = {
    "Cc": "the control character",
    "Cf": "the invisible character",
    "Cs": "half of a surrogate pair,",
    "Zl": "the line separator",
    "Zp": "the paragraph separator",
}


def fault(text: str, longest: int) -> str:
    """What is wrong with an id, as the end of a sentence; "" if nothing is wrong. No raw character is repeated.

    longest: most bytes of the id in UTF-8
    """
    if not text:
        return "is empty"
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > longest:
        return f"has {size:,} bytes, but may have at most {longest:,}"
    if text.isascii() and text.isprintable():
        return ""
    for place, letter in enumerate(text, 1):
        kind = _KINDS.get(unicodedata.category(letter), "the invisible character" if letter in _INVISIBLE else "")
        if kind:
            return f"has {kind} U+{ord(letter):04X} as character {place}; only characters that can be seen may be used"
    return ""


def shown(text: str) -> str:
    """A text for a message: without characters that cannot be seen, and not longer than some words."""
    short = text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
    return "".join(letter if not fault(letter, 4) else f"\\u{ord(letter):04x}" for letter in short)


def check(text: str, field: str, longest: int) -> None:
    """Refuse a wrong id of a request. Raises `RequestError`, which names the field.

    field: path of the field in the request, or the name of a part of the path, such as `run`
    longest: most bytes of the id in UTF-8
    """
    if reason := fault(text, longest):
        raise RequestError(f"{field} {reason}", field)
