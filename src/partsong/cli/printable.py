"""Makes text safe to print, so that the words of a model cannot control the terminal.

All control characters except newline and tab are removed. An escape sequence then has no effect, and its other
characters are printed as plain text. If the terminal's encoding lacks a typographic character, such as a curly quote, a
similar plain character is printed.
"""

from collections.abc import Mapping

# Characters that change the direction of writing, among them the deprecated characters. They could disguise a line.
_DIRECTIONS = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x2070))
# C0 and C1 controls (a carriage return would overwrite its line), DEL, and characters of direction are removed.
# Unicode's line and paragraph separators become newlines.
_CONTROLS: Mapping[int, str | None] = {
    **dict.fromkeys([*range(0x20), *range(0x7F, 0xA0), *_DIRECTIONS]),
    0x09: "\t",
    0x0A: "\n",
    0x2028: "\n",
    0x2029: "\n",
}
# Encoders of JSON escape C0 controls, but no other control characters.
_IN_JSON = {code: f"\\u{code:04x}" for code in (*range(0x7F, 0xA0), *_DIRECTIONS, 0x2028, 0x2029)}
# Each replacement is one character, so that the text keeps its width.
_PLAIN = str.maketrans("█░•▌│─━┃═·…–—‘’“”×→←\u00a0", "#.*||--|=..--''\"\"x>< ")


def printable(text: str, encoding: str = "utf-8") -> str:
    """Return the text without control characters, and with replacements for characters that `encoding` lacks."""
    return encodable(text.translate(_CONTROLS), encoding)


def printable_json(line: bytes) -> bytes:
    """Return the same JSON document with all control characters and characters of direction escaped.

    The decoded values stay the same. JSON is also escaped for a pipe, because `| head` or `| jq .answer` may write to a
    terminal.
    """
    if line.isascii() and b"\x7f" not in line:
        return line
    return line.decode("utf-8", "surrogatepass").translate(_IN_JSON).encode("utf-8", "surrogatepass")


def encodable(text: str, encoding: str) -> str:
    """Return the text with another character in place of each character that `encoding` lacks."""
    if text.isascii():
        return text
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(_PLAIN).encode(encoding, "replace").decode(encoding, "replace")
    return text


def single_line(text: str, encoding: str = "utf-8") -> str:
    """Return the printable text on one line, with single spaces, for model ids and messages inside a sentence."""
    return " ".join(printable(text, encoding).split())
