"""Turns items of a history that only their own provider understands into text.

A conversation that began with another service holds items of that service's own tools: searches, code that was run,
requests to its connectors. No other model knows such items, but every model reads text. So each item becomes a line
with the tool's name and the item's fields as JSON.
"""

from typing import Any

import msgspec

LONGEST_ITEM = 32 * 1024  # characters of one item as text; the rest is left out, with a note
LONGEST_WORD = 4096  # characters of a string without a space; a longer one is encoded data, which no model can read
DEEPEST = 32  # levels of nesting; deeper values are replaced by a note
# Fields that matter to the service that made the item, and not to a reader.
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
    """Return the item as a line of text in brackets.

    what: the words that begin the line, such as `the tool web_search`
    item: the item's fields, as decoded from JSON
    """
    fields = {name: plain(value) for name, value in item.items() if name not in BOOKKEEPING}
    fields = {name: value for name, value in fields.items() if value not in (None, "", [], {})}
    text = msgspec.json.encode(fields).decode() if fields else ""
    if len(text) > LONGEST_ITEM:
        text = f"{text[:LONGEST_ITEM]}… ({len(text) - LONGEST_ITEM:,} more characters are left out)"
    return f"\n[{what}{': ' if text else ''}{text}]\n"


def plain(value: Any, depth: int = 0) -> Any:
    """Return the JSON value without `BOOKKEEPING` fields (`type` and `status` stay), encoded data and deep nesting.

    Encoded data and nesting below `DEEPEST` are replaced by notes. `depth` is the present level; 0 at the top.
    """
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
