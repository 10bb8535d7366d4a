"""Finds and counts the tool calls that proposers propose, so that the aggregator sees on which of them they agree.

Two tool calls are the same if they have the same tool and equal arguments; the order of JSON fields and white space do
not matter. A tool call with an unknown tool, without JSON, or against the schema is not counted. It stays in its text
unchanged.
"""

import asyncio
import json
import re
from dataclasses import dataclass
from typing import NoReturn

from partsong.bounds import Bounds
from partsong.engine.tool_calls import faults_of_tool_calls
from partsong.model import Conversation, ToolCall
from partsong.prompts import listed
from partsong.wire.tokens import estimate

LONGEST = 65_536  # characters of the arguments of a proposed tool call; a longer one stays in its text
_BEGIN = re.compile(r'<call tool="([^"<>\n]{1,128})">\s*')
_END = re.compile(r"\s*</call>")


@dataclass(frozen=True, slots=True)
class _Written:
    """A tool call in a proposal.

    start, end: indexes of its start and its end in the text
    tool: name of the tool
    arguments: the arguments in normal form
    shown: the arguments as the proposer wrote them
    """

    start: int
    end: int
    tool: str
    arguments: str
    shown: str

    @property
    def means(self) -> tuple[str, str]:
        """What equal tool calls have in common."""
        return self.tool, self.arguments


async def gathered(conversation: Conversation, texts: tuple[str, ...], bounds: Bounds) -> tuple[tuple[str, ...], str]:
    """Replace the valid tool calls in the proposals by numbers, and list them.

    texts: texts of the proposals, in seat order

    Returns the new texts, and the text that lists the tool calls with these numbers; "" if there are none.
    """
    found = await _valid(conversation, [await _found(text, bounds.proposed_calls) for text in texts], bounds)
    votes: dict[tuple[str, str], int] = {}
    shortest: dict[tuple[str, str], str] = {}
    for written in found:
        for each in written:
            # The list shows the shortest form of the arguments: the normal form turns 1e15 into 18 characters, and the
            # cost planning relies on a list that is not longer than the tool calls.
            shortest[each.means] = min(shortest.get(each.means, each.arguments), each.shown, key=estimate)
        for means in dict.fromkeys(each.means for each in written):  # one proposer is one voice
            votes[means] = votes.get(means, 0) + 1
    ordered = sorted(votes, key=lambda means: -votes[means])  # equal counts stay in the order of proposals
    if not ordered:
        return texts, ""
    numbers = {means: number for number, means in enumerate(ordered, 1)}
    told = tuple(_numbered(text, written, numbers) for text, written in zip(texts, found, strict=True))
    return told, listed(tuple((each[0], shortest[each], votes[each]) for each in ordered), len(texts))


async def _found(text: str, most: int) -> list[_Written]:
    """The tool calls in a text, in order, whether or not they are valid.

    most: beginnings of tool calls that are read. Each of them may cost as much time as the longest arguments.
    """
    found: list[_Written] = []
    index = 0
    for _ in range(most):
        if (begin := _BEGIN.search(text, index)) is None:
            break
        await asyncio.sleep(0)
        index = begin.end()
        if (read := _read(text, index)) is None:
            continue
        arguments, end = read
        if (ended := _END.match(text, end)) is not None:
            found.append(_Written(begin.start(), ended.end(), begin[1], arguments, text[index:end] or arguments))
            index = ended.end()
    return found


async def _valid(conversation: Conversation, found: list[list[_Written]], bounds: Bounds) -> list[list[_Written]]:
    """The tool calls whose tool exists and whose arguments fit its schema, for each proposal.

    All of them are checked together, so that the proposals of a layer take the time of one check.
    """
    made = [ToolCall("", each.tool, each.arguments) for written in found for each in written]
    faults = iter(await faults_of_tool_calls(conversation, made, bounds))
    return [[each for each in written if next(faults) is None] for written in found]


def _read(text: str, index: int) -> tuple[str, int] | None:
    """The JSON value that begins at `index` in normal form, and the index of its end; `None` if it is no JSON.

    The normal form has sorted fields and no white space, so that equal values are equal texts.
    """
    if text.startswith("</call>", index):
        return "{}", index
    try:
        value, end = json.JSONDecoder(parse_constant=_refuse).raw_decode(text[index : index + LONGEST])
        arguments = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        arguments.encode()  # raises for a lone surrogate, which cannot be sent on
    except (ValueError, RecursionError):
        return None
    return arguments, index + end


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _numbered(text: str, written: list[_Written], numbers: dict[tuple[str, str], int]) -> str:
    """The text with `[proposed call N]` in place of each tool call; `numbers` holds N for each tool call."""
    pieces, done = list[str](), 0
    for each in written:
        pieces += (text[done : each.start], f"[proposed call {numbers[each.means]}]")
        done = each.end
    return "".join((*pieces, text[done:]))
