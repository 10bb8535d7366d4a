"""A chat completion, whole or as a stream's chunks, heard by the same `Said`, so that the two cannot come to differ.

All chunks that one network read brought are decoded at once, and their text becomes one delta. If that fails, each is
decoded alone and loosely: see `chunk`. How the differences between compatible servers are read is told in
docs/models.md.
"""

import re
from collections.abc import Collection, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from partsong.errors import ModelError
from partsong.model import Answer, Caveat, Delta, Part, Reasoning, Request, Text, TextDelta, Usage
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
from partsong.wire.endings import WEIGHTS, Ending, parse_end, shown_end, unknown_end
from partsong.wire.json import UNREADABLE
from partsong.wire.sse import is_ping
from partsong.wire.tokens import estimate, estimate_tokens

DONE = b"[DONE]"
MEDIA = re.compile("image|audio|video|file")
FAULTS = (*UNREADABLE, ValueError)


class Said:
    """What a model has said so far: chunks or a whole completion go in, deltas come out, and in the end an answer.

    heard: turns true with the first chunk
    ended: whether an end was announced
    settled: whether that end looks like the last word, so that only bookkeeping can follow
    broken: whether words have followed an announced end, so that only the stream's own end is one
    done: whether nothing more will come
    problem: the JSON of an error that came in place of a chunk
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
        "broken",
        "calls",
        "done",
        "ended",
        "heard",
        "model",
        "problem",
    )

    def __init__(self, tools: Collection[str] = (), *, thinks_first: bool = False) -> None:
        """`tools` are the names of the declared tools; `thinks_first` is whether content begins with thoughts."""
        self.model = ""
        self.heard = False
        self.ended = False
        self.broken = False
        self.done = False
        self.problem: bytes | None = None
        self.calls = ToolCalls(tools)
        self._plain = True  # whether the next chunks are expected to have words alone
        self._attempts = 2  # at reading them so
        self._content = Content(thinks_first=thinks_first)
        self._details = Details()
        self._counted: Counted | None = None
        self._end: Ending = ""
        self._unknown = ""  # the end word that nobody knows
        self._bare = False  # whether the last end came with nothing else
        self._likely: list[dict[str, float]] = []
        self._refused: list[str] = []
        self._other: set[str] = set()  # what the model answered that is neither words nor tool calls
        self._choice: Any = None  # the choice whose words are the answer's
        self._chooser: Any = None  # the choice whose tool calls are

    def hear(self, events: Sequence[tuple[str, bytes]]) -> list[Delta]:
        """Take in the events of one network read; neighbouring deltas of one kind come out as one.

        Raises `ModelError` for what is no chunk.
        """
        datas = [data for _, data in events if data]
        if DONE in datas:
            datas = datas[: datas.index(DONE)]
            self.done = True
        joined = b"[%b]" % b",".join(datas)
        deltas = self._hear_plain(joined, datas) if self._plain else None
        if deltas is None:
            deltas = self._hear_any(joined, datas, events)
        if events and events[-1][0] and self.problem is None:  # this server names its events
            self.problem = next((data for name, data in events if name == "error"), None)
        if self.done:
            self.ended = self._bare = True
            self.finish(deltas)
        return deltas

    def _hear_plain(self, joined: bytes, datas: list[bytes]) -> list[Delta] | None:
        """The deltas of chunks that have words alone; `None` if some have more."""
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
        """Take in a whole completion; its deltas are what a stream would have said at once.

        Raises `ModelError` for what is none.
        """
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
        """The stream has ended: pass on what was held back."""
        self._content.end(deltas, whole=self._end in ("", "stop", "tool_calls"))
        self.calls.end(deltas)

    def _decode_each(self, events: Sequence[tuple[str, bytes]]) -> tuple[list[Chunk], list[bytes]]:
        """The chunks of events that cannot be decoded together, each with its bytes."""
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
                self.problem = data  # an error by name need not have the form of a chunk
                break
            datas.append(data)
        return found, datas

    def _take_in_plain(self, found: list[PlainChunk], datas: list[bytes]) -> list[Delta]:
        deltas: list[Delta] = []
        words: list[str] = []  # of neighbouring chunks, said as one
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
            self.model = next((chunk.model for chunk in found if chunk.model and isinstance(chunk.model, str)), "")

    def _hear_choice(self, choice: Choice, words: list[str], deltas: list[Delta], *, streamed: bool) -> None:
        """Take in one choice. Its words are added to `words`, so that those of neighbouring chunks are said as one."""
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
                self._refused.append(said.refusal)
            if self.ended and not bare:
                self.broken = True
        if choice.logprobs is not None:
            self._likely += likely_tokens_of(choice.logprobs)
        if choice.usage is not None:
            self._count(parse_fields(choice.usage))
        if choice.finish_reason:
            self._speak(words, deltas)
            self._hear_end(choice.finish_reason, deltas, bare=bare)
        if choice.error:
            self.problem = msgspec.json.encode({"error": choice.error})

    def _hear_usage(self, usage: Any, data: bytes, *, alone: bool) -> None:
        """Take in a usage. One that stands alone in a chunk comes when nothing else will."""
        self._count(count(usage_of(data, usage)))
        self._bare = self._bare or (self.ended and alone)

    def _speak(self, words: list[str], deltas: list[Delta]) -> None:
        if words:
            self._content.speak("".join(words), deltas)
            words.clear()

    def _spoken(self, choice: Choice, streamed: bool) -> Spoken | None:
        """The delta or the message of a choice that has both, as Perplexity's and ModelScope's have.

        A whole answer is its message. In a stream the message repeats what the deltas have said, unless none has.
        """
        if not streamed:
            return choice.delta if choice.delta is not None and is_empty(choice.message) else choice.message
        if choice.delta is None:
            return choice.message
        nothing_said = not (self._content.words or self.calls or self._content.thoughts)
        return choice.message if nothing_said and choice.finish_reason and is_empty(choice.delta) else choice.delta

    def _leads(self, index: Any) -> bool:
        """Whether the words of this choice are the answer's: those of the first choice that speaks."""
        if self._choice is None:
            self._choice = index
        return bool(index == self._choice)

    def _hear_other(self, said: Spoken, index: Any, deltas: list[Delta], *, alone: bool) -> bool:
        """Take in a delta that has more than words in it; whether there was anything in it."""
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
        # A choice of its own for the tool calls is how one server passes on Claude's answers.
        if said.tool_calls and self._chooser in (None, index):
            self._chooser = index
            for piece in said.tool_calls:
                self.calls.add(piece, deltas, alone=alone)
            something = True
        if said.function_call is not None or said.images or said.audio:
            something = self._hear_rare(said, deltas) or something
        return something

    def _hear_rare(self, said: Spoken, deltas: list[Delta]) -> bool:
        """A function call, as tool calls were once called; pictures and sound, which cannot be passed on."""
        self._other |= {name for name in ("images", "audio") if getattr(said, name)}
        if said.function_call is None or said.tool_calls:
            return False
        self.calls.add(Piece(0, "", said.function_call), deltas)
        return True

    def _take_apart(self, parts: list[ContentPart]) -> tuple[str, str]:
        """The words and the thoughts in a content that is a list; what it refuses is kept apart."""
        words, thoughts = [], []
        for part in parts:
            words.append(part.text or "")
            if part.refusal:
                self._refused.append(part.refusal)
            if isinstance(part.thinking, str):
                thoughts.append(part.thinking)
            elif part.thinking:
                thoughts.append(self._take_apart(part.thinking)[0])
            elif not part.text and MEDIA.search(str(part.type)):
                self._other.add(str(part.type))
        return "".join(words), "".join(thoughts)

    def _hear_end(self, word: str, deltas: list[Delta], *, bare: bool) -> None:
        """Take in an end word. `bare` is whether its chunk had nothing else."""
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
        """Whether the content began with thoughts though no tag said so."""
        return self._content.lone

    @property
    def refusal(self) -> str:
        """The words by which the model refused, if it did. They are no part of the answer."""
        return "".join(self._refused)

    @property
    def usage(self) -> Usage | None:
        """What the provider has counted so far; `None` if nothing."""
        return None if self._counted is None else self._counted.usage(0, 0)

    def used(self, request: Request) -> Usage:
        """What was used so far, as the provider counts; what it has not counted is estimated."""
        counted = self._counted
        if counted is None:
            return self.estimate(request)
        asked = estimate_tokens(request) if counted.asked is None else 0
        if counted.said:
            return counted.usage(asked, 0)
        said = estimate(self._written())
        return replace(counted, said=None if said else counted.said).usage(asked, said)  # words are never 0 tokens

    def estimate(self, request: Request) -> Usage:
        """What was used so far, where the provider has not counted: high rather than low."""
        return Usage(estimate_tokens(request), estimate(self._written()), estimated=True)

    def _written(self) -> str:
        written = [*self._content.words, *self._content.thoughts, *self._refused]
        for call in self.calls.all:
            written += (call.name, *call.pieces)
        return "".join(written)

    def answer(self) -> Answer:
        """The answer as far as it has come. Its usage is all zero where the provider has counted nothing."""
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
            finish = "content_filter"  # however it says that it ended
        elif finish == "unknown":
            finish = "length"
            caveats.append(Caveat("truncated", unknown_end(self._unknown)))
        elif self.calls and finish in ("", "stop"):
            finish = "tool_calls"  # there is something to do, whatever reason a server gives for stopping
        if self._other:
            left_out = ", ".join(sorted(self._other))
            caveats.append(Caveat("shortened", f"it also answered with what is no text, which is left out: {left_out}"))
        return Answer(
            tuple(parts),
            finish or "stop",  # type: ignore[arg-type]
            self.usage or Usage(),
            self.model,
            logprobs=tuple(self._likely) if self._likely else msgspec.UNSET,
            caveats=tuple(caveats) if caveats else msgspec.UNSET,
        )


def has_words_alone(said: Spoken) -> bool:
    """Whether a delta has nothing but words, or a refusal."""
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
    """Raise `ModelError` unless each event holds one chunk: an event may be cut where the cuts make sense together."""
    if len(found) != len(datas):
        raise ModelError("the stream has events that hold more or less than a chunk each", "server")


def is_empty(said: Spoken | None) -> bool:
    """Whether a delta or a message has nothing in it that belongs to an answer."""
    return said is None or not (
        said.content
        or said.reasoning_content
        or said.reasoning
        or said.tool_calls
        or said.refusal
        or said.function_call
    )


def decode_one(data: bytes) -> Chunk:
    """One chunk, loosely if need be. Raises one of `FAULTS`."""
    try:
        return decode_whole(data)
    except msgspec.DecodeError:
        return decode_loose(data)
