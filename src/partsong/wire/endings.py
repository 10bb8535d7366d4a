"""Translates the `finish_reason` or `stop_reason` of any API into partsong's finish reasons.

Normal ends are a closed list. A fragment must not pass for a whole answer because its end word is unknown.
"""

from typing import Literal

from partsong.model import FinishReason

LONGEST_NAME = 300  # characters of a model's name that are kept
MOST_KINDS = 10  # kinds of content that cannot be passed on; further kinds are not named

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
# Some servers send one of these words in chunks before the end, where others send null.
NO_END = frozenset({"", "null", "none"})
# Parts of other end words, by the finish reason that they mean. The first row that matches decides, because the name
# of a content filter may also contain a word of a later row.
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
# If one answer has several end words, the one with the highest weight decides: a later "stop" does not undo a filter.
WEIGHTS: dict[Ending, int] = {"": 0, "unknown": 1, "stop": 2, "tool_calls": 3, "length": 4, "content_filter": 5}


def parse_end(word: str | None) -> Ending:
    """Return the meaning of an end word, in any case and with hyphens, underscores or spaces.

    The result is a `FinishReason`, `""` if the word means "no end yet", `"failed"` if the answer broke off, or
    `"unknown"` for a word that is in no table.
    """
    name = (word or "").strip().lower().replace("-", "_").replace(" ", "_")
    if name in NO_END:
        return ""
    if name in GOOD:
        return GOOD[name]
    return next((ending for ending, names in WITHIN if any(part in name for part in names)), "unknown")


def unknown_end(word: str) -> str:
    """Return the sentence that warns the user of an unknown end word."""
    return f'it ended with "{shown_end(word)}", which is no known end: the answer may be cut short'


def with_kind(kinds: set[str], kind: str) -> set[str]:
    """Return the names of kinds of content that cannot be passed on, with one more unless there are many."""
    return kinds | {shown_end(kind)} if len(kinds) < MOST_KINDS else kinds


def shown_end(word: str) -> str:
    """Return the first 60 characters of an end word, with unprintable characters as spaces."""
    return "".join(letter if letter.isprintable() else " " for letter in word[:60])
