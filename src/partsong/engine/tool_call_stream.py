"""The calls of an answer on their way to the listener: held while they are short, passed on as they come once long.

A short call is whole within a moment; held so long, it can be checked and, if it is wrong, written again before a word
of it is heard. What is long takes its time to come and is worth watching: it writes a file. It is let through once its
name is known to be right, and all calls before it are whole and right; from then on nothing can be taken back.
"""

from dataclasses import dataclass, field

from partsong.engine.tool_calls import called, fault_of_call, fault_of_name
from partsong.model import Answer, Conversation, Delta, Send, ToolCall, ToolCallDelta

# Characters of arguments. A call that looks something up has some tens of them, a command seldom more than 300.
SHORT = 500


@dataclass(slots=True, eq=False)
class _Held:
    """One call as far as it has come; `index` is where it stands among the calls that the listener hears."""

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
    """The calls of one answer. `heard` is whether anything of them has been passed on to `say`."""

    def __init__(self, conversation: Conversation, say: Send) -> None:
        self.conversation, self.say = conversation, say
        self.eager = {tool.name for tool in conversation.tools if tool.eager}
        self.tool_calls: dict[int, _Held] = {}
        self.heard = False
        self.last = -1  # the index of the last call that has been let through
        self.stopped = False  # something is wrong: the rest waits for the check of the whole answer

    async def take(self, delta: ToolCallDelta) -> None:
        """A piece of a call has come."""
        call = self.tool_calls.get(delta.index)
        if call is None:
            if self.tool_calls and self.conversation.parallel_tool_calls is False:
                return  # the first alone counts
            call = self.tool_calls[delta.index] = _Held(len(self.tool_calls))
        call.grow(delta)
        if call.live and call.index == self.last and delta.arguments:
            await self.say(ToolCallDelta(call.index, arguments=delta.arguments))
            return
        due = call.length > SHORT or call.name in self.eager
        if due and call.name and not call.live and not self.stopped:
            await self.let_through(call)

    async def finish(self, answer: Answer) -> None:
        """Pass on what was held of an answer that is right as a whole."""
        if not self.tool_calls:  # the model has told its calls only now
            for delta in deltas_of(answer):
                await self.say(delta)
        for call in self.tool_calls.values():
            await self.tell(call)

    async def let_through(self, call: _Held) -> None:
        """Pass on this call as far as it has come, after those before it; none of them, if something is wrong."""
        before = [other for other in self.tool_calls.values() if other.index < call.index]
        whole = [ToolCall(other.id, other.name, "".join(other.pieces)) for other in before if not other.live]
        if fault_of_name(self.conversation, call.name) or any(fault_of_call(self.conversation, one) for one in whole):
            self.stopped = True
            return
        for other in (*before, call):
            await self.tell(other)

    async def tell(self, call: _Held) -> None:
        if call.live:
            return
        call.live, self.heard, self.last = True, True, call.index
        pieces, call.pieces = call.pieces, []
        await self.say(ToolCallDelta(call.index, call.id, call.name, pieces[0]))
        for piece in pieces[1:]:
            await self.say(ToolCallDelta(call.index, arguments=piece))


def deltas_of(answer: Answer) -> list[Delta]:
    """The calls of an answer, each at once."""
    return [ToolCallDelta(at, call.id, call.name, call.arguments) for at, call in enumerate(called(answer))]
