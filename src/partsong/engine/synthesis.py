"""The aggregator's answer on its way to the listener: streamed, without marks of the fence, and checked.

The answer is streamed as the model speaks, with two exceptions. Tool calls are held back until they are checked (see
`tool_call_stream`). An answer that must fit a schema is held back whole if nobody needs it before it is whole. An
answer that is wrong, and that nobody has heard, is written once more.
"""

from functools import partial

from msgspec.structs import replace

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
    Request,
    Text,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    text_of,
)
from partsong.prompts import in_words


async def say(seat: Seat, delta: Delta) -> None:
    """Say a piece of the run's answer, unless the aggregator's seat has ended."""
    if seat.ended:
        return
    seat.run.said.append(delta.text if type(delta) is TextDelta else "")
    await seat.run.say(AggregationDelta(delta))


class Synthesis:
    """One answer of the aggregator.

    unfencing: takes the marks of the fence out of the answer; `None` if the prompt has no fence
    holds_text: whether text is held back until the whole answer is checked
    """

    def __init__(self, seat: Seat, unfencing: Unfencing | None) -> None:
        self.seat, self.unfencing = seat, unfencing
        self.conversation = seat.run.conversation
        self.holds_text = self.conversation.response_format is not None and not seat.run.live
        self.tool_calls = ToolCallStream(self.conversation, partial(say, seat))

    async def write(self, model: str, request: Request) -> Answer:
        """Call the model, and pass its answer on. Raises `ModelError` if the answer is wrong, also the second time."""
        try:
            answer = await self.seat.call(model, request, self.send)
        except ModelError as error:
            if error.cause != "invalid":
                raise
            # The provider itself has found the model's mistake, before or after some words were heard.
            await self.say_rest()
            heard = "".join(self.seat.run.said)
            wrong = Answer((Text(heard),) if heard else (), usage=error.usage or NOTHING_USED)
            wrote = f" You wrote: {error.wrote}" if error.wrote else ""
            return await self.write_again(model, request, wrong, f"{error}.{wrote}")
        if self.unfencing is not None:
            await self.say_rest()
            answer = replace(answer, parts=self.unfencing.cleaned(answer.parts))
        answer = replace(answer, parts=kept(self.conversation, answer.parts))
        if (fault := await fault_of(self.conversation, answer)) is not None:
            return await self.write_again(model, request, answer, fault)
        if self.holds_text and answer.text:
            await say(self.seat, TextDelta(answer.text))
        await self.tool_calls.finish(answer)
        return answer

    async def send(self, delta: Delta) -> None:
        """Pass a delta of the model on, as far as it may be heard already."""
        self.seat.begun()
        if type(delta) is ToolCallDelta:
            await self.say_rest()
            await self.tool_calls.take(delta)
            return
        if type(delta) is TextDelta:
            if self.unfencing is not None:
                if not (text := self.unfencing.take(delta.text)):
                    return
                delta = TextDelta(text)
            if self.holds_text:
                return
        await say(self.seat, delta)

    async def say_rest(self) -> None:
        """Say the text that was held back because it might have become a mark of the fence."""
        if self.unfencing is not None and not self.holds_text and (rest := self.unfencing.rest()):
            await say(self.seat, TextDelta(rest))

    async def write_again(self, model: str, request: Request, wrong: Answer, fault: str) -> Answer:
        """Ask once more, with the fault told. Raises `ModelError` if the wrong answer has been heard already."""
        run, conversation = self.seat.run, self.conversation
        if self.tool_calls.heard or (conversation.response_format is not None and any(run.said)):
            raise ModelError(f"{model} did not answer as it was to: {fault}", "invalid", usage=wrong.usage)
        answer = await self.seat.call(model, _told_of(request, wrong, fault), None)
        usage = wrong.usage + answer.usage
        parts = kept(conversation, answer.parts)
        if any(run.said):  # the text before the tool calls has been heard, and stands
            before = tuple(part for part in wrong.parts if not isinstance(part, ToolCall))
            parts = (*before, *(part for part in parts if isinstance(part, ToolCall)))
        answer = replace(answer, parts=parts, usage=usage)
        if (left := await fault_of(conversation, answer)) is not None:
            raise ModelError(f"{model} did not answer as it was to, twice: {left}", "invalid", usage=usage)
        if not any(run.said) and answer.text:
            await say(self.seat, TextDelta(answer.text))
        for delta in deltas_of(answer):
            await say(self.seat, delta)
        return answer


def _told_of(request: Request, wrong: Answer, fault: str) -> Request:
    """The request with the wrong answer and its fault behind it."""
    said = text_of(tuple(in_words(part) for part in wrong.parts)).strip() or "(nothing)"
    told = f"That cannot be used. {fault} Write it again, and nothing else."
    added = Message("assistant", (Text(said),)), Message("user", (Text(told),))
    return replace(request, messages=(*request.messages, *added))
