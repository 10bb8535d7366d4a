"""Writes every event as a line of JSON as soon as it happens, for programs to read."""

from partsong.cli.output import Output
from partsong.events import AnyEvent, to_json


class JsonLines:
    """Writes each event to `out`. With `ascii_only`, control characters are escaped, for a terminal."""

    def __init__(self, out: Output[bytes], *, ascii_only: bool = False) -> None:
        self.out, self.ascii_only = out, ascii_only

    async def hear(self, event: AnyEvent) -> None:
        line = to_json(event)
        if self.ascii_only and not line.isascii():
            line = "".join(_escaped(letter) for letter in line.decode()).encode()
        self.out.write(line + b"\n")


def _escaped(letter: str) -> str:
    """The letter, escaped if it is a control character that JSON leaves as it is (0x7F to 0x9F)."""
    return f"\\u{ord(letter):04x}" if 0x7F <= ord(letter) < 0xA0 else letter
