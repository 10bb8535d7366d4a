"""Passes the aggregator's answer to the listener: streamed, checked, and without copied marks of the fence.

The answer is streamed while the model writes, with two exceptions. Tool calls are held back until they are checked (see
`tool_call_stream`). An answer that must fit a schema is held back until it is whole, unless the run is `live`. If an
answer is wrong and the listener has not heard it, the model is asked once more.
"""

from functools import partial

from msgspec.structs import replace

from partsong.engine.citations import Citations
from partsong.engine.look_up import ask
from partsong.engine.seat import Seat
from partsong.engine.tool_call_stream import ToolCallStream, deltas_of
from partsong.engine.tool_calls import fault_of, kept
from partsong.engine.unfencing import Unfencing
from partsong.errors import ModelError
from partsong.events import AggregationDelta
from partsong.model import (
    NOTHING_USED,
    Answer,
    Delta,
    Message,
    Part,
    Request,
    Text,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    text_of,
)
from partsong.prompts import in_words


async def say(seat: Seat, delta: Delta) -> None:
    """Emit a piece of the run's answer, unless the aggregator's seat has ended."""
    if seat.ended:
        return
    seat.run.said.append(delta.text if type(delta) is TextDelta else "")
    await seat.run.say(AggregationDelta(delta))


class Synthesis:
    """Gets one answer from the aggregator, and passes it to the listener.

    seat: the aggregator's seat
    unfencing: removes copied marks of the fence and a code fence around JSON; `None` if neither is needed
    citations: removes citations of sources that nobody has read; `None` (default) if there are no sources
    holds_text: whether text is held back until the whole answer is checked
    """

    def __init__(self, seat: Seat, unfencing: Unfencing | None, citations: Citations | None = None) -> None:
        self.seat, self.unfencing, self.citations = seat, unfencing, citations
        self.conversation = seat.run.conversation
        self.holds_text = self.conversation.response_format is not None and not seat.run.live
        self.tool_calls = ToolCallStream(self.conversation, partial(say, seat), seat.run.bounds)

    async def write(self, model: str, request: Request) -> Answer:
        """Call the model, pass its answer to the listener, and return the answer. A wrong answer is written once more.

        Raises `ModelError` if the call fails, or if the answer is wrong and was heard, or is wrong a second time.
        """
        try:
            agent = self.seat.run.recipe.aggregator
            answer = await ask(self.seat, agent, model, request, self.send, holds=True)
        except ModelError as error:
            if error.cause != "invalid":
                raise
            # The provider has rejected the answer of its own model, perhaps after the listener has heard some of it.
            await self.say_rest()
            heard = "".join(self.seat.run.said)
            wrong = Answer((Text(heard),) if heard else (), usage=error.usage or NOTHING_USED)
            wrote = f" You wrote: {error.wrote}" if error.wrote else ""
            return await self.write_again(model, request, wrong, f"{error}.{wrote}")
        if self.unfencing is not None or self.citations is not None:
            await self.say_rest()
        if self.unfencing is not None:
            answer = replace(answer, parts=await self.unfencing.cleaned(answer.parts))
        if self.citations is not None:
            answer = replace(answer, parts=self.checked(answer.parts))
        answer = replace(answer, parts=kept(self.conversation, answer.parts))
        if (fault := await fault_of(self.conversation, answer, self.seat.run.bounds)) is not None:
            return await self.write_again(model, request, answer, fault)
        if self.holds_text and answer.text:
            await say(self.seat, TextDelta(answer.text))
        await self.tool_calls.finish(answer)
        return answer

    async def send(self, delta: Delta) -> None:
        """Take a delta of the model, and pass on what need not be held back."""
        self.seat.begun(delta)
        if type(delta) is ToolCallDelta:
            await self.say_rest()
            await self.tool_calls.take(delta)
            return
        if type(delta) is TextDelta:
            if self.unfencing is not None:
                if not (text := await self.unfencing.take(delta.text)):
                    return
                delta = TextDelta(text)
            if self.citations is not None:
                if not (text := self.citations.take(delta.text)):
                    return
                delta = TextDelta(text)
            if self.holds_text:
                return
        await say(self.seat, delta)

    async def say_rest(self) -> None:
        """Emit the text that was held back because it might have become a mark of the fence, or a citation."""
        rest = "" if self.unfencing is None else self.unfencing.rest()
        if self.citations is not None:
            rest = self.citations.take(rest) + self.citations.rest()
        if rest and not self.holds_text:
            await say(self.seat, TextDelta(rest))

    def checked(self, parts: tuple[Part, ...]) -> tuple[Part, ...]:
        """The parts of the whole answer without wrong citations, which are a loss of the run."""
        assert self.citations is not None, "there are citations to check"
        again = Citations(self.citations.count)
        made = tuple(Text(again.take(part.text) + again.rest()) if isinstance(part, Text) else part for part in parts)
        if again.removed:
            numbers = ", ".join(f"[{number}]" for number in sorted(again.removed)[:20])
            error = ModelError(f"its citations {numbers} were removed, since no seat has read such a source", "invalid")
            self.seat.run.losses.add(*self.seat.address, self.seat.model, error, "shortened")
        return made

    async def write_again(self, model: str, request: Request, wrong: Answer, fault: str) -> Answer:
        """Ask the model once more, with its wrong answer and the fault in the prompt, and pass the new answer on.

        fault: what is wrong, in a sentence for the model

        Raises `ModelError` if the listener has heard the wrong answer, or if the new answer is wrong too.
        """
        run, conversation = self.seat.run, self.conversation
        if self.tool_calls.heard or (conversation.response_format is not None and any(run.said)):
            raise ModelError(f"{model} did not answer as it was to: {fault}", "invalid", usage=wrong.usage)
        self.seat.note_wrong(wrong.usage)
        request = replace(request, tools=conversation.tools)  # nothing is looked up again
        try:
            answer = await self.seat.call(model, _told_of(request, wrong, fault), None)
        except ModelError as error:
            if error.cause == "budget":
                # Nobody planned the second attempt. Where the money does not allow one, the fault is what went wrong.
                message = f"{model} did not answer as it was to: {fault}"
                usage = wrong.usage + (error.usage or NOTHING_USED)
                raise ModelError(message, "invalid", usage=usage) from None
            # The error stands for both attempts, and so does its usage.
            error.usage = wrong.usage + (error.usage or NOTHING_USED)
            raise
        usage = wrong.usage + answer.usage
        parts = kept(conversation, answer.parts)
        if any(run.said):  # the listener has heard the text before the tool calls, so this text is kept
            before = tuple(part for part in wrong.parts if not isinstance(part, ToolCall))
            parts = (*before, *(part for part in parts if isinstance(part, ToolCall)))
        answer = replace(answer, parts=parts, usage=usage)
        if (left := await fault_of(conversation, answer, run.bounds)) is not None:
            raise ModelError(f"{model} did not answer as it was to, twice: {left}", "invalid", usage=usage)
        if not any(run.said) and answer.text:
            await say(self.seat, TextDelta(answer.text))
        for delta in deltas_of(answer):
            await say(self.seat, delta)
        return answer


def _told_of(request: Request, wrong: Answer, fault: str) -> Request:
    """The request with two more messages: the wrong answer, and a sentence about its fault."""
    said = text_of(tuple(in_words(part) for part in wrong.parts)).strip() or "(nothing)"
    told = f"That cannot be used. {fault} Write it again, and nothing else."
    added = Message("assistant", (Text(said),)), Message("user", (Text(told),))
    return replace(request, messages=(*request.messages, *added))
