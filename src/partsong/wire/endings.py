"""The words with which models end, as finish reasons: `finish_reason` and `stop_reason` in one table for every API.

The good ends are a closed list. An end word that nobody knows must not make a fragment pass for a whole answer.
"""

from typing import Literal

from partsong.model import FinishReason

Ending = FinishReason | Literal["failed", "unknown", ""]

GOOD: dict[str, FinishReason] = {
    "stop": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "complete": "stop",
    "completed": "stop",
    "tool_calls": "tool_calls",
    "tool_use": "tool_calls",
    "function_call": "tool_calls",
}
# Some servers write "no end yet" as a word.
NO_END = frozenset({"", "null", "none"})
# What stands in the name of any other end, in this order: a filter's name may also hold a word of a later row.
WITHIN: tuple[tuple[Ending, tuple[str, ...]], ...] = (
    (
        "content_filter",
        (
            "filter",
            "safety",
            "sensitive",
            "recitation",
            "block",
            "prohibit",
            "refus",
            "guardrail",
            "moderation",
            "spii",
        ),
    ),
    (
        "failed",
        (
            "abort",
            "cancel",
            "error",
            "network",
            "fail",
            "timeout",
            "timed_out",
            "malformed",
            "interrupt",
            "insufficient",
            "rate_limit",
            "overload",
            "disconnect",
        ),
    ),
    ("length", ("length", "limit", "window", "max")),
)
# Of several ends in one answer the weightiest holds: a filter that struck is not undone by a later "stop".
WEIGHTS: dict[Ending, int] = {"": 0, "unknown": 1, "stop": 2, "tool_calls": 3, "length": 4, "content_filter": 5}


def parse_end(word: str | None) -> Ending:
    """What an end word means: `""` for no end, `"failed"` for an answer that broke off, `"unknown"` for a new word."""
    name = (word or "").strip().lower().replace("-", "_").replace(" ", "_")
    if name in NO_END:
        return ""
    if name in GOOD:
        return GOOD[name]
    return next((ending for ending, names in WITHIN if any(part in name for part in names)), "unknown")


def unknown_end(word: str) -> str:
    """The sentence that tells of an end word that nobody knows."""
    return f'it ended with "{shown_end(word)}", which is no known end: the answer may be cut short'


def shown_end(word: str) -> str:
    """An end word as it can be shown."""
    return "".join(letter if letter.isprintable() else " " for letter in word[:60])
