"""Text made safe to print: a model's words never steer the terminal that shows them.

Every control character but the newline and the tab is taken out, so that no escape sequence is left of one: what
remains of it is seen as the letters that it is. Where the terminal's encoding has no Unicode, typographic characters
become their plain cousins.
"""

from collections.abc import Mapping

# C0 and C1 controls and DEL; a carriage return would overwrite its line. The marks that turn the direction of writing
# around could make a line read as what it is not. The line separators are line ends to some.
_CONTROLS: Mapping[int, str | None] = {
    **dict.fromkeys([*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)]),
    0x09: "\t",
    0x0A: "\n",
    0x2028: "\n",
    0x2029: "\n",
}
# One character for one, so that what was measured before still fits.
_PLAIN = str.maketrans("█░•▌│─━┃═·…–—‘’“”×→←\u00a0", "#.*||--|=..--''\"\"x>< ")


def printable(text: str, encoding: str = "utf-8") -> str:
    """The text without control characters, and without what `encoding` does not have."""
    return encodable(text.translate(_CONTROLS), encoding)


def encodable(text: str, encoding: str) -> str:
    """The text with characters that `encoding` does not have replaced, each by one character."""
    if text.isascii():
        return text
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(_PLAIN).encode(encoding, "replace").decode(encoding, "replace")
    return text


def single_line(text: str, encoding: str = "utf-8") -> str:
    """The text on one line: for model ids and messages that stand in the middle of other words."""
    return " ".join(printable(text, encoding).split())
