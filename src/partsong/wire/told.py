"""Items of a history that only their own provider understands, told in words.

A conversation that began with another service brings items of that service's own tools: searches, code that was run,
requests to its connectors. No other model knows such items, but every model reads words. So each item becomes a line
that names the tool and holds the item's fields as JSON.
"""

from typing import Any

import msgspec

LONGEST_ITEM = 32 * 1024  # characters of one item in words; what is beyond is left out, and said to be
LONGEST_WORD = 4096  # characters of a string without a space: longer ones are encoded data, which no model reads
DEEPEST = 32  # levels of nesting that are told
# Fields for whoever keeps the item, not for a reader.
BOOKKEEPING = frozenset(
    {
        "id",
        "type",
        "status",
        "call_id",
        "caller",
        "tool_use_id",
        "cache_control",
        "encrypted_content",
        "encrypted_index",
        "encrypted_stdout",
        "container_id",
        "signature",
        "namespace",
    }
)


def told(what: str, item: dict[str, Any]) -> str:
    """The item in words; `what` says what happened, such as `the tool web_search`."""
    fields = {name: plain(value) for name, value in item.items() if name not in BOOKKEEPING}
    fields = {name: value for name, value in fields.items() if value not in (None, "", [], {})}
    text = msgspec.json.encode(fields).decode() if fields else ""
    if len(text) > LONGEST_ITEM:
        text = f"{text[:LONGEST_ITEM]}… ({len(text) - LONGEST_ITEM:,} more characters are left out)"
    return f"\n[{what}{': ' if text else ''}{text}]\n"


def plain(value: Any, depth: int = 0) -> Any:
    """The value without encoded data, without bookkeeping, and no deeper than `DEEPEST`."""
    if depth > DEEPEST and isinstance(value, dict | list):
        return "(nested deeper)"
    match value:
        case str() if len(value) > LONGEST_WORD and " " not in value[:LONGEST_WORD]:
            return f"({len(value):,} characters of data)"
        case dict():
            return {
                name: plain(each, depth + 1)
                for name, each in value.items()
                if name not in BOOKKEEPING - {"type", "status"}
            }
        case list():
            return [plain(each, depth + 1) for each in value]
    return value
