"""Every event as a line of JSON, as soon as it happens: for programs."""

from partsong.cli.output import Output
from partsong.events import AnyEvent, to_json


class JsonLines:
    """Writes each event to `out`. On a terminal, `ascii_only` keeps its control characters from having an effect."""

    def __init__(self, out: Output[bytes], *, ascii_only: bool = False) -> None:
        self.out, self.ascii_only = out, ascii_only

    async def hear(self, event: AnyEvent) -> None:
        line = to_json(event)
        if self.ascii_only and not line.isascii():
            line = "".join(_escaped(letter) for letter in line.decode()).encode()
        self.out.write(line + b"\n")


def _escaped(letter: str) -> str:
    """JSON escapes the control characters below 0x20 itself, but not those from 0x7F to 0x9F."""
    return f"\\u{ord(letter):04x}" if 0x7F <= ord(letter) < 0xA0 else letter
