"""Writes every event as a line of JSON as soon as it happens, for programs to read."""

from partsong.cli.output import Output
from partsong.cli.printable import printable_json
from partsong.events import AnyEvent, to_json


class JsonLines:
    """A listener that writes each event to `out` as a line of JSON."""

    def __init__(self, out: Output[bytes]) -> None:
        self.out = out

    async def hear(self, event: AnyEvent) -> None:
        self.out.write(printable_json(to_json(event)) + b"\n")
