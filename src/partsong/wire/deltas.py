"""Collects the deltas of one network read, and joins neighbouring deltas of one kind.

Sending one delta to the listeners costs about as much as parsing ten tokens.
"""

from partsong.model import Delta, ReasoningDelta, TextDelta, ToolCallDelta


def is_progress(delta: Delta) -> bool:
    """Return whether a delta shows that the model goes on. White space does not: some servers send it to wait."""
    if type(delta) is ToolCallDelta:
        return bool(delta.id or delta.name or delta.arguments.strip())
    return not delta.text.isspace() if delta.text else False  # type: ignore[union-attr]


def add_words(deltas: list[Delta], words: str) -> None:
    """Add text of the answer to `deltas`; the text joins the last delta if that delta is a `TextDelta`."""
    last = deltas[-1] if deltas else None
    if type(last) is TextDelta:
        deltas[-1] = TextDelta(last.text + words)
    else:
        deltas.append(TextDelta(words))


def add_thoughts(deltas: list[Delta], thoughts: str) -> None:
    """Add reasoning to `deltas`; the reasoning joins the last delta if that delta is a `ReasoningDelta`."""
    last = deltas[-1] if deltas else None
    if type(last) is ReasoningDelta:
        deltas[-1] = ReasoningDelta(last.text + thoughts)
    else:
        deltas.append(ReasoningDelta(thoughts))


def add_tool_call(deltas: list[Delta], index: int, identity: str, name: str, arguments: str) -> None:
    """Add a piece of a tool call to `deltas`, unless all three strings are empty.

    index: of the tool call among the tool calls of the answer
    identity: the tool call's id, "" if already sent
    name: the tool's name, "" if already sent
    arguments: the next piece of the arguments' JSON text
    """
    last = deltas[-1] if deltas else None
    if type(last) is ToolCallDelta and last.index == index:
        deltas[-1] = ToolCallDelta(index, last.id or identity, last.name or name, last.arguments + arguments)
    elif identity or name or arguments:
        deltas.append(ToolCallDelta(index, identity, name, arguments))
