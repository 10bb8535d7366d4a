"""JSON on standard output, safe to print on a terminal."""

import sys
from typing import Any

import msgspec

from partsong.cli.printable import printable_json


def print_json(value: Any) -> None:
    """Print the value as one line of JSON."""
    sys.stdout.buffer.write(printable_json(msgspec.json.encode(value)) + b"\n")
