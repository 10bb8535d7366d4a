"""Writes answers as a Parquet file, piece by piece."""

from collections.abc import Iterable, Iterator
from decimal import Decimal
from itertools import islice
from typing import Any

import msgspec

from partsong.errors import InputError

ROWS = 10_000  # rows of a group
SMALLEST = Decimal("1e-18")  # dollars


def parquet_pieces(lines: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    """The bytes of a Parquet file with these lines of a file of answers, a group of rows at a time.

    Numbers of tokens and dollars are columns of their own. Losses and errors are JSON, and an id is text.

    Raises `InputError` if pyarrow is not installed.
    """
    try:
        import pyarrow
        from pyarrow.parquet import ParquetWriter
    except ImportError:
        raise InputError("Parquet needs the extra `parquet`: pip install 'partsong[parquet]'") from None
    text, number = pyarrow.string(), pyarrow.int64()
    schema = pyarrow.schema(
        [
            *(pyarrow.field(name, text) for name in ("id", "question", "answer", "error", "model", "losses")),
            *(pyarrow.field(name, number) for name in ("input_tokens", "output_tokens")),
            pyarrow.field("dollars", pyarrow.decimal128(38, 18)),
        ]
    )
    sink = _Sink()
    with ParquetWriter(sink, schema, compression="zstd") as writer:
        rows = (_row(line) for line in lines)
        while group := list(islice(rows, ROWS)):
            writer.write_table(pyarrow.Table.from_pylist(group, schema))
            yield sink.taken()
    yield sink.taken()


def _row(line: dict[str, Any]) -> dict[str, Any]:
    usage = line["usage"]
    dollars = usage.get("dollars")
    return {
        "id": str(line["id"]),
        "question": line["question"],
        "answer": line["answer"],
        "error": None if "error" not in line else msgspec.json.encode(line["error"]).decode(),
        "model": line["model"],
        "losses": msgspec.json.encode(line["losses"]).decode(),
        "input_tokens": usage.get("input_tokens", 0),
        "output_tokens": usage.get("output_tokens", 0),
        "dollars": None if dollars is None else Decimal(dollars).quantize(SMALLEST),
    }


class _Sink:
    """A file that only collects what is written."""

    closed = False

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0

    def write(self, data: Any) -> int:
        piece = bytes(data)
        self._pieces.append(piece)
        self._size += len(piece)
        return len(piece)

    def tell(self) -> int:
        return self._size

    def flush(self) -> None: ...

    def close(self) -> None: ...

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def taken(self) -> bytes:
        """What was written since the last time."""
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)
