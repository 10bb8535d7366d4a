"""Writes every event as a line of JSON as soon as it happens, for programs to read."""

from partsong.cli.output import Output
from partsong.events import AnyEvent, to_json


class JsonLines:
    """A listener that writes each event as a line of JSON.

    out: output for the lines
    ascii_only: whether the control characters U+007F to U+009F are escaped, for a terminal; false by default
    """

    def __init__(self, out: Output[bytes], *, ascii_only: bool = False) -> None:
        self.out, self.ascii_only = out, ascii_only

    async def hear(self, event: AnyEvent) -> None:
        line = to_json(event)
        if self.ascii_only and not line.isascii():
            line = "".join(_escaped(letter) for letter in line.decode()).encode()
        self.out.write(line + b"\n")


def _escaped(letter: str) -> str:
    """Return the letter, escaped if it is one of the control characters that JSON leaves unescaped (0x7F to 0x9F)."""
    return f"\\u{ord(letter):04x}" if 0x7F <= ord(letter) < 0xA0 else letter
