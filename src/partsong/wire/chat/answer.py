"""Parses a chat completion. One class, `Said`, reads whole and streamed completions, so that both give equal answers.

All chunks of one network read are decoded at once, and their text becomes one delta. If decoding fails, each chunk is
decoded alone and leniently (see `chunk`). docs/models.md lists the differences between compatible servers.
"""

import re
from collections.abc import Collection, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from partsong.errors import ModelError
from partsong.model import Answer, Caveat, Delta, Part, Reasoning, Request, Text, TextDelta, Usage
from partsong.wire.believing import Believable
from partsong.wire.chat.chunk import (
    Choice,
    Chunk,
    Piece,
    PlainChunk,
    Spoken,
    decode_chunks,
    decode_loose,
    decode_plain,
    decode_whole,
    likely_tokens_of,
    usage_of,
)
from partsong.wire.chat.chunk import Part as ContentPart
from partsong.wire.chat.details import Details
from partsong.wire.chat.tool_calls import ToolCalls
from partsong.wire.chat.usage import Counted, count, parse_fields
from partsong.wire.content import Content
from partsong.wire.endings import LONGEST_NAME, WEIGHTS, Ending, parse_end, shown_end, unknown_end, with_kind
from partsong.wire.json import UNREADABLE, check_size
from partsong.wire.room import Room
from partsong.wire.sse import is_ping
from partsong.wire.tokens import estimate, estimate_tokens

DONE = b"[DONE]"
MEDIA = re.compile("image|audio|video|file")
FAULTS = (*UNREADABLE, ValueError)
MOST_LIKELY = 4_000_000  # characters of log probabilities: 10,000 tokens with 20 alternatives have about 3,600,000
A_PLACE, A_NUMBER = 100, 8  # characters as which a token of the text counts, and each alternative beside its own text


class Said:
    """One completion as far as it has been received: takes chunks or a whole completion, and returns deltas.

    At the end, `answer` makes the answer. Private methods that take `deltas` append to that list.

    model: the model that the provider says has answered; "" until a chunk names it
    heard: whether a chunk of the answer has come
    ended: whether a finish reason has come
    settled: whether the finish reason looks final, so that at most a usage follows
    broken: whether text has followed a finish reason; then only the end of the stream ends the answer
    done: whether nothing more will come (`[DONE]`, or a whole completion)
    problem: JSON of an error that the server sent in place of a chunk; `None` if none came
    calls: the tool calls so far
    room: the room that is left for the answer
    """

    __slots__ = (
        "_attempts",
        "_bare",
        "_choice",
        "_chooser",
        "_content",
        "_counted",
        "_details",
        "_end",
        "_likely",
        "_other",
        "_plain",
        "_refused",
        "_unknown",
        "_unlikely",
        "broken",
        "calls",
        "done",
        "ended",
        "heard",
        "model",
        "problem",
        "room",
    )

    def __init__(self, tools: Collection[str] = (), *, thinks_first: bool = False, room: Room | None = None) -> None:
        """Start a completion.

        tools: names of the tools that the request declares
        thinks_first: whether content begins with thoughts although it has no `<think>`; False by default
        room: the room for the answer; `None` (default) for the room of an answer without `max_tokens`
        """
        self.room = room = Room() if room is None else room
        self.model = ""
        self.heard = False
        self.ended = False
        self.broken = False
        self.done = False
        self.problem: bytes | None = None
        self.calls = ToolCalls(room, tools)
        self._plain = True  # whether the next chunks are expected to hold text alone, which is decoded faster
        self._attempts = 2  # how often that expectation may still fail before it is given up
        self._content = Content(room, thinks_first=thinks_first)
        self._details = Details(room)
        self._counted: Counted | None = None
        self._end: Ending = ""
        self._unknown = ""  # a finish reason that is in no table of `endings`
        self._bare = False  # whether the chunk of the last finish reason held no text
        self._likely: list[dict[str, float]] = []  # for each token, logprobs by alternative
        self._unlikely = MOST_LIKELY  # characters of logprobs for which there is room; below 0, all were dropped
        self._refused: list[str] = []  # pieces of the text with which the model refuses
        self._other: set[str] = set()  # kinds of content that are neither text nor tool calls, such as "audio"
        self._choice: Any = None  # index of the choice whose text is the answer
        self._chooser: Any = None  # index of the choice whose tool calls belong to the answer

    def hear(self, events: Sequence[tuple[str, bytes]]) -> list[Delta]:
        """Parse the events of one network read, as (name, data), and return their deltas.

        Neighbouring deltas of one kind are joined. Raises `ModelError` if the data of an event is no chunk.
        """
        datas = [data for _, data in events if data]
        for data in datas:
            check_size(data)
        if DONE in datas:
            datas = datas[: datas.index(DONE)]
            self.done = True
        joined = b"[%b]" % b",".join(datas)
        deltas = self._hear_plain(joined, datas) if self._plain else None
        if deltas is None:
            deltas = self._hear_any(joined, datas, events)
        if events and events[-1][0] and self.problem is None:  # this server names its events; one may be an error
            self.problem = next((data for name, data in events if name == "error"), None)
        if self.done:
            self.ended = self._bare = True
            self.finish(deltas)
        return deltas

    def _hear_plain(self, joined: bytes, datas: list[bytes]) -> list[Delta] | None:
        """Return the deltas of chunks that hold text alone, or `None` if a chunk holds more.

        joined: the JSON array of all chunks
        datas: the JSON of each chunk
        """
        try:
            found = decode_plain(joined)
        except FAULTS:
            self._plain, self._attempts = False, self._attempts - 1
            return None
        check_number(found, datas)
        return self._take_in_plain(found, datas)

    def _hear_any(self, joined: bytes, datas: list[bytes], events: Sequence[tuple[str, bytes]]) -> list[Delta]:
        try:
            found = decode_chunks(joined)
        except FAULTS:
            found, datas = self._decode_each(events)
        check_number(found, datas)
        deltas = self._take_in(found, datas)
        self._plain = self._attempts > 0 and bool(deltas) and all(type(delta) is TextDelta for delta in deltas)
        return deltas

    def hear_whole(self, document: bytes) -> list[Delta]:
        """Parse a completion that is not streamed, and return its content as deltas.

        Raises `ModelError` if the document is no chat completion.
        """
        check_size(document)
        try:
            whole = decode_whole(document)
        except FAULTS as fault:
            try:
                whole = decode_loose(document, halves=False)
            except FAULTS:
                raise ModelError(f"the answer is no chat completion: {fault}", "server") from None
        deltas = self._take_in([whole], [document], streamed=False)
        if not self.heard and self.problem is None:
            raise ModelError("the answer is no chat completion: it has no choices", "server")
        self.ended = self.done = True
        self.finish(deltas)
        return deltas

    def finish(self, deltas: list[Delta]) -> None:
        """Add what was held back to `deltas`, since the stream has ended."""
        self._content.end(deltas, whole=self._end in ("", "stop", "tool_calls"))
        self.calls.end(deltas)

    def _decode_each(self, events: Sequence[tuple[str, bytes]]) -> tuple[list[Chunk], list[bytes]]:
        """Decode each event alone; return the chunks and, in the same order, their JSON."""
        found: list[Chunk] = []
        datas: list[bytes] = []
        for name, data in events:
            if not data or (name != "error" and is_ping(name, data)):
                continue
            if data.strip() == DONE:
                self.done = True
                break
            try:
                found.append(decode_one(data))
            except FAULTS as fault:
                if name != "error":
                    message = f"the stream has what is no chunk of a chat completion: {fault}"
                    raise ModelError(message, "server") from None
                self.problem = data  # the data of an event named "error" need not have the form of a chunk
                break
            datas.append(data)
        return found, datas

    def _take_in_plain(self, found: list[PlainChunk], datas: list[bytes]) -> list[Delta]:
        deltas: list[Delta] = []
        words: list[str] = []  # text of neighbouring chunks, which becomes one delta
        add, ended = words.append, self.ended
        # This loop runs for every token of every model.
        for chunk, data in zip(found, datas, strict=True):
            if chunk.choices:
                choice = chunk.choices[0]
                if (delta := choice.delta) is not None and (content := delta.content):
                    add(content)
                    if ended:
                        self.broken = True
                else:
                    content = ""
                if choice.finish_reason:
                    self._speak(words, deltas)
                    self._hear_end(choice.finish_reason, deltas, bare=not content)
                    ended = self.ended
            elif chunk.choices is None and chunk.usage is None and (b'"message"' in data or b'"detail"' in data):
                self.problem = data
            if chunk.usage is not None:
                self._hear_usage(chunk.usage, data, alone=not chunk.choices)
        if words:
            self._choice = 0
            self._speak(words, deltas)
        if not self.heard or not self.model:
            self._note(found)
        return deltas

    def _take_in(self, found: list[Chunk], datas: list[bytes], *, streamed: bool = True) -> list[Delta]:
        deltas: list[Delta] = []
        words: list[str] = []
        for chunk, data in zip(found, datas, strict=True):
            for choice in chunk.choices or ():
                self._hear_choice(choice, words, deltas, streamed=streamed)
            if chunk.choices is None and chunk.usage is None and (b'"message"' in data or b'"detail"' in data):
                self.problem = data
            if chunk.usage is not None:
                self._hear_usage(chunk.usage, data, alone=not chunk.choices)
            if isinstance(chunk.x_groq, dict):
                self._count(parse_fields(chunk.x_groq.get("usage")))
            if chunk.error:
                self.problem = data
        self._speak(words, deltas)
        self._note(found)
        return deltas

    def _note(self, found: Sequence[Chunk | PlainChunk]) -> None:
        if not self.heard:
            self.heard = any(chunk.choices is not None for chunk in found)
        if not self.model and found:
            model = next((chunk.model for chunk in found if chunk.model and isinstance(chunk.model, str)), "")
            self.model = model[:LONGEST_NAME]

    def _hear_choice(self, choice: Choice, words: list[str], deltas: list[Delta], *, streamed: bool) -> None:
        """Read one choice of a chunk.

        words: collects text of neighbouring chunks, which becomes one delta
        streamed: whether the choice belongs to a stream, and not to a whole completion
        """
        said = choice.delta
        if choice.message is not None:
            self._speak(words, deltas)
            said = self._spoken(choice, streamed)
        bare = True
        if said is not None:
            index = choice.index or 0
            if type(said.content) is str and has_words_alone(said):
                if said.content and self._leads(index):
                    words.append(said.content)
                    bare = False
            else:
                self._speak(words, deltas)
                bare = not self._hear_other(said, index, deltas, alone=not streamed)
            if said.refusal:
                self._refused.append(self.room.words(said.refusal))
            if self.ended and not bare:
                self.broken = True
        if choice.logprobs is not None:
            self._hear_likely(choice.logprobs)
        if choice.usage is not None:
            self._count(parse_fields(choice.usage))
        if choice.finish_reason:
            self._speak(words, deltas)
            self._hear_end(choice.finish_reason, deltas, bare=bare)
        if choice.error:
            self.problem = msgspec.json.encode({"error": choice.error})

    def _hear_likely(self, logprobs: Any) -> None:
        """Keep log probabilities, or drop all of them if there are too many; an answer is whole without them."""
        if self._unlikely < 0:
            return
        likely = likely_tokens_of(logprobs)
        self._unlikely -= sum(A_PLACE + sum(A_NUMBER + len(token) for token in place) for place in likely)
        self._likely += likely
        if self._unlikely < 0:
            self._likely.clear()

    def _hear_usage(self, usage: Any, data: bytes, *, alone: bool) -> None:
        """Read the usage of a chunk.

        data: the chunk's JSON
        alone: whether the chunk has no choices; such a chunk is the last one of a stream
        """
        self._count(count(usage_of(data, usage)))
        self._bare = self._bare or (self.ended and alone)

    def _speak(self, words: list[str], deltas: list[Delta]) -> None:
        if words:
            self._content.speak("".join(words), deltas)
            words.clear()

    def _spoken(self, choice: Choice, streamed: bool) -> Spoken | None:
        """Return the content of a choice that has a message: its delta or its message.

        Perplexity and ModelScope send both. In a whole completion the message counts. In a stream the delta counts,
        because the message repeats all earlier deltas; the message counts only if there were none.
        """
        if not streamed:
            return choice.delta if choice.delta is not None and is_empty(choice.message) else choice.message
        if choice.delta is None:
            return choice.message
        nothing_said = not (self._content.words or self.calls or self._content.thoughts)
        return choice.message if nothing_said and choice.finish_reason and is_empty(choice.delta) else choice.delta

    def _leads(self, index: Any) -> bool:
        """Return whether this choice's text belongs to the answer: true for the first choice that has any."""
        if self._choice is None:
            self._choice = index
        return bool(index == self._choice)

    def _hear_other(self, said: Spoken, index: Any, deltas: list[Delta], *, alone: bool) -> bool:
        """Read a delta that holds more than text; return whether it held any content.

        index: of the choice
        alone: whether each tool call in `said` is whole, and not a piece
        """
        something = False
        thought = said.reasoning_content or said.reasoning
        if details := said.reasoning_details:
            told = self._details.add(details)
            thought = thought or told
        content = said.content
        if type(content) is list:
            content, thoughts = self._take_apart(content)
            thought = thought or thoughts
        if thought and isinstance(thought, str) and self._leads(index):
            self._content.think(thought, deltas)
            something = True
        if content and self._leads(index):
            self._content.speak(content, deltas)  # type: ignore[arg-type]
            something = True
        # One server sends the tool calls of Claude's answers in another choice than the text.
        if said.tool_calls and self._chooser in (None, index):
            self._chooser = index
            for piece in said.tool_calls:
                self.calls.add(piece, deltas, alone=alone)
            something = True
        if said.function_call is not None or said.images or said.audio:
            something = self._hear_rare(said, deltas) or something
        return something

    def _hear_rare(self, said: Spoken, deltas: list[Delta]) -> bool:
        """Read what is rare in a delta: `function_call`, the old form of a tool call, and images or audio.

        Images and audio cannot be passed on; the answer gets a caveat. Returns whether there was a function call.
        """
        self._other |= {name for name in ("images", "audio") if getattr(said, name)}
        if said.function_call is None or said.tool_calls:
            return False
        self.calls.add(Piece(0, "", said.function_call), deltas)
        return True

    def _take_apart(self, parts: list[ContentPart]) -> tuple[str, str]:
        """Return the text and the thoughts in a content that is a list. Refusals are added to `_refused`."""
        words, thoughts = [], []
        for part in parts:
            words.append(part.text or "")
            if part.refusal:
                self._refused.append(self.room.words(part.refusal))
            if isinstance(part.thinking, str):
                thoughts.append(part.thinking)
            elif part.thinking:
                thoughts.append(self._take_apart(part.thinking)[0])
            elif not part.text and MEDIA.search(str(part.type)):
                self._other = with_kind(self._other, str(part.type))
        return "".join(words), "".join(thoughts)

    def _hear_end(self, word: str, deltas: list[Delta], *, bare: bool) -> None:
        """Read a finish reason. `bare`: whether its chunk held no text or tool call."""
        ending = parse_end(word)
        if ending == "failed":
            said = {"message": f'it ended the answer with "{shown_end(word)}"', "type": shown_end(word)}
            self.problem = msgspec.json.encode({"error": said})
        elif ending:
            self.ended, self._bare = True, bare
            if ending == "unknown":
                self._unknown = word
            if WEIGHTS[ending] >= WEIGHTS[self._end]:
                self._end = ending
            if bare:
                self.calls.end(deltas)

    def _count(self, counted: Counted | None) -> None:
        if counted is not None:
            self._counted = counted.after(self._counted)

    @property
    def settled(self) -> bool:
        spoken = bool(self._content.words) or bool(self.calls) or bool(self._refused)
        return self._bare and not self.broken and spoken

    @property
    def lone_tag(self) -> bool:
        """Whether a `</think>` without a `<think>` has shown that the content began with thoughts."""
        return self._content.lone

    @property
    def refusal(self) -> str:
        """The text of the model's refusal, which is no part of the answer; "" if the model did not refuse."""
        return "".join(self._refused)

    @property
    def usage(self) -> Usage | None:
        """The usage that the provider has reported so far; `None` if none was reported."""
        return None if self._counted is None else self._counted.usage(0, 0)

    def used(self, request: Request) -> Usage:
        """Return the usage so far as the provider reported it; estimates replace counts that were not reported."""
        if self._counted is None:
            return self.estimate(request)
        counted = self._counted.believed(Believable(request, self._written))
        asked = estimate_tokens(request) if counted.asked is None else 0
        if counted.said:
            return counted.usage(asked, 0)
        said = estimate(self._written())
        return replace(counted, said=None if said else counted.said).usage(asked, said)  # text is never 0 tokens

    def estimate(self, request: Request) -> Usage:
        """Return the usage so far, estimated from the texts. The estimate errs high."""
        return Usage(estimate_tokens(request), estimate(self._written()), estimated=True)

    def _written(self) -> str:
        written = [*self._content.words, *self._content.thoughts, *self._refused]
        for call in self.calls.all:
            written += (call.name, *call.pieces)
        return "".join(written)

    def answer(self) -> Answer:
        """Return the answer as far as it has been received. Its usage is zero if the provider has reported none."""
        parts: list[Part] = []
        thoughts, signature = "".join(self._content.thoughts), self._details.signature
        if thoughts or signature:
            parts.append(Reasoning(thoughts, signature))
        if words := "".join(self._content.words):
            parts.append(Text(words))
        parts += self.calls.parts()
        caveats: list[Caveat] = []
        finish = self._end
        if self._refused:
            finish = "content_filter"  # whatever finish reason the server sent
        elif self.room.full:
            finish = "length"
            caveats.append(Caveat("truncated", self.room.full))
        elif finish == "unknown":
            finish = "length"
            caveats.append(Caveat("truncated", unknown_end(self._unknown)))
        elif self.calls and finish in ("", "stop"):
            finish = "tool_calls"  # some servers send "stop" although the answer calls tools
        if self._other:
            left_out = ", ".join(sorted(self._other))
            caveats.append(Caveat("shortened", f"it also answered with what is no text, which is left out: {left_out}"))
        if self._unlikely < 0:
            caveats.append(Caveat("shortened", "its log probabilities are left out, because they are too many"))
        return Answer(
            tuple(parts),
            finish or "stop",  # type: ignore[arg-type]
            self.usage or Usage(),
            self.model,
            logprobs=tuple(self._likely) if self._likely else msgspec.UNSET,
            caveats=tuple(caveats) if caveats else msgspec.UNSET,
        )


def has_words_alone(said: Spoken) -> bool:
    """Return whether a delta holds nothing but text or a refusal."""
    return not (
        said.reasoning_content
        or said.reasoning
        or said.tool_calls
        or said.reasoning_details
        or said.function_call is not None
        or said.images
        or said.audio
    )


def check_number(found: Sequence[Any], datas: list[bytes]) -> None:
    """Raise `ModelError` unless there are as many chunks as events.

    The chunks were decoded from the joined events, which may be valid JSON although a single event is not.
    """
    if len(found) != len(datas):
        raise ModelError("the stream has events that hold more or less than a chunk each", "server")


def is_empty(said: Spoken | None) -> bool:
    """Return whether a delta or a message holds no text, reasoning, tool call or refusal."""
    return said is None or not (
        said.content
        or said.reasoning_content
        or said.reasoning
        or said.tool_calls
        or said.refusal
        or said.function_call
    )


def decode_one(data: bytes) -> Chunk:
    """Decode one chunk; lenient if strict decoding fails. Raises one of `FAULTS`."""
    try:
        return decode_whole(data)
    except msgspec.DecodeError:
        return decode_loose(data)
