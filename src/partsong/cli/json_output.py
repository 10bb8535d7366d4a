"""JSON on standard output, safe to print on a terminal."""

import sys
from typing import Any

import msgspec

from partsong.cli.printable import printable_json


def print_json(value: Any) -> None:
    """Print a value on standard output as one line of JSON. `value` is any value that msgspec can encode."""
    sys.stdout.buffer.write(printable_json(msgspec.json.encode(value)) + b"\n")
