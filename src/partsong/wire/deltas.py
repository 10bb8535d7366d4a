"""Deltas of one network read: neighbours of one kind become one, because each delta costs as much as ten words."""

from partsong.model import Delta, ReasoningDelta, TextDelta, ToolCallDelta


def add_words(deltas: list[Delta], words: str) -> None:
    """Add words of the answer."""
    last = deltas[-1] if deltas else None
    if type(last) is TextDelta:
        deltas[-1] = TextDelta(last.text + words)
    else:
        deltas.append(TextDelta(words))


def add_thoughts(deltas: list[Delta], thoughts: str) -> None:
    """Add thoughts before the answer."""
    last = deltas[-1] if deltas else None
    if type(last) is ReasoningDelta:
        deltas[-1] = ReasoningDelta(last.text + thoughts)
    else:
        deltas.append(ReasoningDelta(thoughts))


def add_tool_call(deltas: list[Delta], index: int, identity: str, name: str, arguments: str) -> None:
    """Add to the tool call of an index; nothing is added where there is nothing to say."""
    last = deltas[-1] if deltas else None
    if type(last) is ToolCallDelta and last.index == index:
        deltas[-1] = ToolCallDelta(index, last.id or identity, last.name or name, last.arguments + arguments)
    elif identity or name or arguments:
        deltas.append(ToolCallDelta(index, identity, name, arguments))
