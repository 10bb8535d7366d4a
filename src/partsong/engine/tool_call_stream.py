"""Passes the tool calls of an answer to the listener: short tool calls are held back, long tool calls are streamed.

A short tool call is whole within a moment. It is held back until the whole answer is checked, so that a wrong tool call
can be written again before the listener hears of it. A long tool call takes time and is worth watching, since it often
writes a file. It is streamed as soon as its name is right and all tool calls before it are whole and right. What has
been streamed cannot be taken back.
"""

from dataclasses import dataclass, field

from partsong.bounds import Bounds
from partsong.engine.tool_calls import fault_of_name, faults_of_tool_calls, tool_calls_of
from partsong.model import Answer, Conversation, Delta, Send, ToolCall, ToolCallDelta

# Characters of arguments up to which a tool call is short. A search has some tens, and a command seldom more than 300.
SHORT = 500


@dataclass(slots=True, eq=False)
class _Held:
    """One tool call as far as it has arrived.

    index: index of the tool call among those that the listener hears
    pieces: pieces of its arguments that the listener has not heard
    length: number of characters of its arguments so far
    live: whether the tool call is streamed to the listener
    """

    index: int
    id: str = ""
    name: str = ""
    pieces: list[str] = field(default_factory=list)
    length: int = 0
    live: bool = False

    def grow(self, delta: ToolCallDelta) -> None:
        self.id, self.name = self.id or delta.id, self.name or delta.name
        self.length += len(delta.arguments)
        if not self.live:
            self.pieces.append(delta.arguments)


class ToolCallStream:
    """Passes the tool calls of one answer to the listener.

    say: is awaited with each delta for the listener
    bounds: bounds on the schemas of the tools
    eager: names of the tools whose arguments are streamed at any length
    tool_calls: the tool calls so far, by the index that the model's deltas have
    heard: whether the listener has heard of a tool call
    """

    def __init__(self, conversation: Conversation, say: Send, bounds: Bounds) -> None:
        self.conversation, self.say, self.bounds = conversation, say, bounds
        self.eager = {tool.name for tool in conversation.tools if tool.eager}
        self.tool_calls: dict[int, _Held] = {}
        self.heard = False
        self.last = -1  # index of the latest tool call that became live
        self.stopped = False  # a tool call is wrong, so the others wait until the whole answer is checked

    async def take(self, delta: ToolCallDelta) -> None:
        """Take a piece of a tool call, and pass on what need not be held back."""
        held = self.tool_calls.get(delta.index)
        if held is None:
            if self.tool_calls and self.conversation.parallel_tool_calls is False:
                return  # only the first tool call counts
            held = self.tool_calls[delta.index] = _Held(len(self.tool_calls))
        held.grow(delta)
        if held.live and held.index == self.last and delta.arguments:
            await self.say(ToolCallDelta(held.index, arguments=delta.arguments))
            return
        due = held.length > SHORT or held.name in self.eager
        if due and held.name and not held.live and not self.stopped:
            await self.let_through(held)

    async def finish(self, answer: Answer) -> None:
        """Pass on the tool calls that were held back. The whole answer must have been checked."""
        if not self.tool_calls:  # the model has sent no deltas of its tool calls
            for delta in deltas_of(answer):
                await self.say(delta)
        for held in self.tool_calls.values():
            await self.tell(held)

    async def let_through(self, held: _Held) -> None:
        """Pass on the tool call `held` and those before it, or none of them if one is wrong."""
        before = [other for other in self.tool_calls.values() if other.index < held.index]
        whole = [ToolCall(other.id, other.name, "".join(other.pieces)) for other in before if not other.live]
        if fault_of_name(self.conversation, held.name):
            self.stopped = True
            return
        if any(await faults_of_tool_calls(self.conversation, whole, self.bounds)):
            self.stopped = True
            return
        for other in (*before, held):
            await self.tell(other)

    async def tell(self, held: _Held) -> None:
        """Pass on what has arrived of a tool call, which is live from now on."""
        if held.live:
            return
        held.live, self.heard, self.last = True, True, held.index
        pieces, held.pieces = held.pieces, []
        await self.say(ToolCallDelta(held.index, held.id, held.name, pieces[0]))
        for piece in pieces[1:]:
            await self.say(ToolCallDelta(held.index, arguments=piece))


def deltas_of(answer: Answer) -> list[Delta]:
    """The tool calls of a whole answer as deltas, one for each tool call."""
    return [
        ToolCallDelta(index, tool_call.id, tool_call.name, tool_call.arguments)
        for index, tool_call in enumerate(tool_calls_of(answer))
    ]
