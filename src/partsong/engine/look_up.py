"""A seat that looks things up: its model is called, its tool calls are made, and it is called again with the results.

The loop stands within the life of the seat. Each call to the model is a call like any other, and the seat's deadline
holds for all of them together. After the last round the model is told to answer. Its answer is that of its last call,
with the usage of all of them.

Nothing that a tool does fails a run. A wrong tool call, a tool that fails or hangs, and a tool that the money does not
pay for are told to the model. Results are text of anyone, so they stand between marks that they cannot imitate. The
results of a round share the room of `longest_result` characters, which is what the planning of costs counts.
"""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from partsong.engine.fitting import common_length, fit
from partsong.engine.seat import Seat
from partsong.engine.shortening import shorten, without_middle
from partsong.engine.tool_calls import faults_of_tool_calls, tool_calls_of
from partsong.engine.written_tool_calls import with_tool_calls
from partsong.errors import ModelError
from partsong.model import (
    NOTHING_USED,
    Answer,
    Conversation,
    Delta,
    Message,
    ReasoningDelta,
    Request,
    Send,
    Text,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolResult,
    Usage,
)
from partsong.model_info import info_of
from partsong.prompts import fence_word, looked_up, wording
from partsong.recipe import Agent
from partsong.toolbox import MOST_CALLS, OfferedTool
from partsong.wire.tokens import estimate

NOTE = 100  # characters that the note about a cut may have


async def ask(
    seat: Seat, agent: Agent, model: str, request: Request, send: Send | None, *, holds: bool = False
) -> Answer:
    """Call a model; if the request has tools that the agent looks things up with, also make its tool calls.

    request: its tools are those of `Performance.tools_of`, or it has none
    send: hears the deltas; `None` for an answer that is not streamed
    holds: whether text must be held back until a call has ended, because nobody can take back what was heard. Text that
        comes before a tool call is no part of the answer

    Raises `ModelError` if a call fails, or if the seat ends before the answer comes.
    """
    offered = seat.run.tools_of(agent) if request.tools else ()
    if not offered:
        return await seat.call(model, request, send)
    return await _LookingUp(seat, agent, model, request, send, offered, holds).answer()


@dataclass(slots=True)
class _Found:
    """What a tool call has brought, or why it has brought nothing."""

    tool_call: ToolCall
    text: str
    is_error: bool


@dataclass(slots=True)
class _Round:
    """A round of tool calls: the answer that has them, and the result of each."""

    answer: Answer
    found: list[_Found] = field(default_factory=list)


class _LookingUp:
    """One model of a seat while it looks things up.

    used: the usage of the calls that have ended
    stored: what these calls used when they were made, if all came from the store; else `None`
    """

    def __init__(
        self,
        seat: Seat,
        agent: Agent,
        model: str,
        request: Request,
        send: Send | None,
        offered: tuple[OfferedTool, ...],
        holds: bool,
    ) -> None:
        self.seat, self.run, self.agent, self.model, self.request = seat, seat.run, agent, model, request
        self.sends, self.holds = send, holds
        self.offered = {tool.tool.name: tool for tool in offered}
        self.rounds: list[_Round] = []
        self.used = NOTHING_USED
        self.stored: Usage | None = NOTHING_USED
        offers = [self.run.offers[name] for name in agent.tools]
        self.longest = max(offer.longest_result for offer in offers)

    async def answer(self) -> Answer:
        while True:
            last = len(self.rounds) == self.agent.rounds
            answer = with_tool_calls(await self.call(await self.written(last)), self.offered, len(self.rounds))
            tool_calls = tool_calls_of(answer)
            if last or not tool_calls:
                return await self.finished(answer)
            self.rounds.append(made := _Round(answer))
            made.found = self.cut(await self.use(tool_calls))

    async def call(self, request: Request) -> Answer:
        """Call the model once. An error stands for all calls of the loop, and so does its usage."""
        try:
            answer = await self.seat.call(self.model, request, self.sends and self.send)
        except ModelError as error:
            if self.rounds:
                error.usage = self.used + (error.usage or NOTHING_USED)
            raise
        self.seat.begun()
        self.used += answer.usage
        self.stored = None if self.stored is None or answer.stored is None else self.stored + answer.stored
        self.seat.note_wrong(self.used)  # counts also if the seat is cut off during the next call
        return answer

    async def send(self, delta: Delta) -> None:
        """Pass on what the model says. Its tool calls are nobody else's business."""
        assert self.sends is not None, "nobody hears deltas otherwise"
        if isinstance(delta, ToolCallDelta):
            self.seat.begun(delta)
        elif isinstance(delta, ReasoningDelta) or not self.holds:
            await self.sends(delta)

    async def finished(self, answer: Answer) -> Answer:
        """The answer of the seat, with the usage of all calls. Raises `ModelError` if it has nothing but tool calls."""
        parts = tuple(part for part in answer.parts if not isinstance(part, ToolCall))
        if not answer.text.strip():
            message = f"{self.model} went on calling tools when it was told to answer"
            raise ModelError(message, "empty", usage=self.used)
        if self.holds and self.sends is not None:
            await self.sends(TextDelta(answer.text))
        reason = "stop" if answer.finish_reason == "tool_calls" else answer.finish_reason
        return replace(answer, parts=parts, usage=self.used, stored=self.stored, finish_reason=reason)

    async def use(self, tool_calls: tuple[ToolCall, ...]) -> list[_Found]:
        """Make the tool calls of an answer at the same time, and return what each has brought, in their order."""
        tools = tuple(tool.tool for tool in self.offered.values())
        made = tool_calls[:MOST_CALLS]
        faults = await faults_of_tool_calls(Conversation((), tools), made, self.run.bounds)
        found = await asyncio.gather(*map(self.use_one, made, faults))
        # An answer may have thousands of tool calls; all of them need a result in the next prompt.
        told = f"Not called: at most {MOST_CALLS} tools can be called at once. Call it again if it is still needed."
        return [*found, *(_Found(each, told, True) for each in tool_calls[MOST_CALLS:])]

    async def use_one(self, tool_call: ToolCall, fault: str | None) -> _Found:
        """Make one tool call, and emit how it ended. `fault`: why the call cannot be made; `None` if it can."""
        run, offered = self.run, self.offered.get(tool_call.name)
        server, tool = ("", tool_call.name[:200]) if offered is None else (offered.server, offered.name)
        use = run.tally.begin_use(self.seat.address, self.model, server, tool, tool_call.arguments)
        if fault is not None or offered is None:
            error = fault or "There is no such tool."
            run.tally.end_use(use, error=error)
            await run.emitter.say_finished()
            return _Found(tool_call, error, True)
        try:
            await run.pay_for_tool(use)
        except ModelError as problem:
            error = f"it was not called: {problem}"
            run.tally.end_use(use, error=error)
            await run.emitter.say_finished()
            return _Found(tool_call, error, True)
        assert run.toolbox is not None, "tools are offered by a toolbox"
        result = await run.toolbox.use(offered, _arguments(tool_call))
        text = result.error or result.text.strip() or "(nothing)"
        run.tally.end_use(use, len(result.text), result.error[:1000], result.sources)
        if not self.seat.ended:
            await run.emitter.say_finished()
        return _Found(tool_call, text, bool(result.error))

    def cut(self, found: list[_Found]) -> list[_Found]:
        """The results of a round, cut to their common room: so many characters, and so many estimated tokens."""
        room = common_length([len(each.text) for each in found], self.longest)
        for each in found:
            if len(each.text) > room:
                each.text = without_middle(each.text, max(1, room - NOTE))
        tokens = [estimate(each.text) for each in found]
        room = common_length(tokens, self.longest)
        for each, size in zip(found, tokens, strict=True):
            if size > room:
                each.text = shorten(each.text, room)
        return found

    async def written(self, last: bool) -> Request:
        """The request of the next call. Results are shortened further if the prompt does not fit the model's window."""
        if not self.rounds:
            return self.request
        texts = tuple(each.text for made in self.rounds for each in made.found)
        write = _Writing(self.request, self.rounds, last)
        info = info_of(self.run.models[self.model])
        fitted = await fit(info, self.model, write, texts, "truncate")
        self.seat.note_cuts(fitted)
        return fitted.request


@dataclass(frozen=True, slots=True)
class _Writing:
    """Makes the request of a later call out of the first request, the rounds so far, and the texts of their results."""

    request: Request
    rounds: list[_Round]
    last: bool

    def __call__(self, texts: tuple[str, ...], indexes: tuple[int, ...]) -> Request:
        following = iter(texts)
        messages = list(self.request.messages)
        # Who writes a result knows nothing of the conversation, so nobody can write the end of the marks around it.
        word = fence_word(tuple(message.text for message in messages))
        for made in self.rounds:
            pieces = [(each, next(following)) for each in made.found]
            word = fence_word((word, *(text for _, text in pieces)))
            results = tuple(
                ToolResult(each.tool_call.id, (Text(looked_up(text, word, is_error=each.is_error)),), each.is_error)
                for each, text in pieces
            )
            messages += (Message("assistant", made.answer.parts), Message("tool", results))
        if self.last:
            messages.append(Message("user", (Text(wording("look_up_end")),)))
        choice = "none" if self.last else None
        return replace(self.request, messages=tuple(messages), tool_choice=choice)


def _arguments(tool_call: ToolCall) -> dict[str, Any]:
    """The arguments of a checked tool call, which are a JSON object or nothing."""
    arguments = json.loads(tool_call.arguments) if tool_call.arguments.strip() else {}
    return arguments if isinstance(arguments, dict) else {}
