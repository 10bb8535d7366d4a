"""Assembles the content of a streamed message from its blocks and their deltas.

The API gives each block an index, and ends a block before the next one begins. Compatible servers use an index twice,
begin two tool calls at one index, send deltas of blocks that never began, or put thoughts into blocks of text. The
rules:

- A block that begins is a new block, even if its index was used before.
- A delta's own type decides whether it is text or thoughts; a change of type begins a new part of the answer.
- Arguments belong to the first tool call at their index that has not ended and whose arguments are incomplete.
- Parts are in the order in which their deltas were sent to the listener.
"""

import secrets
from typing import Any, Protocol

from partsong.errors import ModelError
from partsong.model import Delta, Part, Reasoning, Text, ToolCall
from partsong.wire.deltas import add_thoughts, add_tool_call, add_words
from partsong.wire.endings import with_kind
from partsong.wire.json import Completeness, can_be_equal, equal
from partsong.wire.room import Room
from partsong.wire.text import Joiner
from partsong.wire.thoughts import Kind, Splitter

REDACTED = "redacted_thinking:"  # prefix of a `Reasoning.signature` that holds the data of a redacted block
MEDIA = ("image", "audio", "video", "file")  # a block whose type contains one of these cannot be passed on


LONGEST_KIND = 100  # characters of the type of a block that are kept


class Given(Protocol):
    """A decoded content block, or a decoded delta of one; `messages.answer.Block` has these fields."""

    type: str
    text: str | None
    thinking: str | None
    signature: str | None
    data: str | None
    id: Any
    name: str | None
    input: Any
    partial_json: str | None


class Written:
    """A part of the answer as far as it has been received.

    kind: "text", "thinking" or "tool_use"
    pieces: pieces of the text, the thoughts or the arguments
    length: number of characters of a tool call's `pieces`
    signature: signature of thoughts; "" for none
    id, name: of a tool call
    index: of a tool call among the tool calls of the answer
    arguments: JSON arguments at the start of a tool call's block, which count if no pieces come
    closed: whether the block of a tool call has ended
    completeness: tells whether the arguments are complete JSON
    joiner: joins characters of the arguments that are divided between pieces
    """

    __slots__ = (
        "arguments",
        "closed",
        "completeness",
        "id",
        "index",
        "joiner",
        "kind",
        "length",
        "name",
        "pieces",
        "signature",
    )

    def __init__(self, kind: str, signature: str = "") -> None:
        self.kind, self.signature = kind, signature
        self.pieces: list[str] = []
        self.id = self.name = ""
        self.arguments = "{}"
        self.index = self.length = 0
        self.closed = False
        self.completeness = Completeness()
        self.joiner = Joiner()

    def part(self) -> Part | None:
        written = "".join(self.pieces)
        if self.kind == "text":
            return Text(written) if written else None
        if self.kind == "thinking":
            return Reasoning(written, self.signature) if written or self.signature else None
        return ToolCall(self.id, self.name, written or self.arguments)


class Blocks:
    """The blocks of one message so far. Methods that take `deltas` append to that list; `index` is the server's.

    calls: the tool calls of the answer
    other: types of blocks that cannot be passed on, such as images
    """

    __slots__ = (
        "_all",
        "_calls",
        "_joiner",
        "_kinds",
        "_latest",
        "_moved",
        "_room",
        "_splitter",
        "_words",
        "calls",
        "other",
    )

    def __init__(self, room: Room, *, thinks_first: bool = False) -> None:
        """Start a message.

        room: the room for the answer
        thinks_first: whether content begins with thoughts although it has no `<think>`; False by default
        """
        self._room = room
        self.calls: list[Written] = []
        self.other: set[str] = set()
        self._all: list[Written] = []
        self._calls: dict[int, list[Written]] = {}  # by the server's index: its tool calls, oldest first
        self._latest: dict[int, Written] = {}  # by the server's index: the text or thoughts that grew last
        self._kinds: dict[int, str] = {}  # by the server's index: type of the block that began last
        self._words: list[str] = []
        self._moved = False
        self._splitter = Splitter(self._words, thinks_first)
        self._joiner = Joiner()

    def __bool__(self) -> bool:
        return bool(self._all)

    @property
    def lone(self) -> bool:
        """Whether a `</think>` without a `<think>` before it has shown that the answer began with thoughts."""
        return self._splitter.lone

    def open(self, index: int, block: Given, deltas: list[Delta]) -> None:
        """Begin a block, if there is room for it."""
        if not self._room.part():
            return
        self._kinds[index] = block.type[:LONGEST_KIND]
        self._latest.pop(index, None)
        match block.type:
            case "tool_use":
                self._begin_call(index, block, deltas)
            case "text":
                self._speak(index, block.text or "", deltas)
            case "thinking":
                self._latest[index] = self._add("thinking", self._room.data(block.signature or ""))
                self._think(index, block.thinking or "", deltas)
            case "redacted_thinking":
                self._latest[index] = self._add("thinking", REDACTED + self._room.data(block.data or ""))
            case kind:  # a type that the API has added later, or a block of a tool that runs at the provider
                if any(name in kind for name in MEDIA) and "tool" not in kind:
                    self.other = with_kind(self.other, kind)

    def grow(self, index: int, piece: Given, deltas: list[Delta]) -> None:
        """Add a delta to the block at an index. Raises `ModelError` for arguments if no tool call has begun."""
        if piece.text:
            self._speak(index, piece.text, deltas)
        elif piece.thinking:
            self._think(index, piece.thinking, deltas)
        elif piece.partial_json:
            self._argue(index, piece.partial_json, deltas)
        elif piece.signature:
            self._sign(index, piece.signature)

    def close(self, index: int, deltas: list[Delta]) -> None:
        """End the block at an index; of several open tool calls there, the first one."""
        call = next((call for call in self._calls.get(index, []) if not call.closed), None)
        if call is not None and self._kinds.get(index) == "tool_use":
            call.closed = True
            self._complete(call, deltas)

    def end(self, deltas: list[Delta], *, whole: bool) -> None:
        """End the message, and append what was held back. `whole`: whether the message ended normally.

        If thoughts were expected first and no `</think>` came, a whole message's thoughts are passed on as text, too.
        """
        self._joiner.end()
        for call in self.calls:
            call.joiner.end()
            self._complete(call, deltas)
        self._take_in(0, self._splitter.end(), deltas)
        if self._splitter.unclosed and whole and not any(written.kind == "text" for written in self._all):
            self._splitter.skip()
            self._write(0, True, "".join(piece for written in self._all for piece in written.pieces), deltas)

    def parts(self) -> tuple[Part, ...]:
        return tuple(part for written in self._all if (part := written.part()) is not None)

    def written(self) -> str:
        """Return all text, thoughts, tool names and arguments so far, to estimate their tokens."""
        return "".join(piece for written in self._all for piece in (written.name, *written.pieces))

    def _add(self, kind: str, signature: str = "") -> Written:
        written = Written(kind, signature)
        self._all.append(written)
        return written

    def _speak(self, index: int, text: str, deltas: list[Delta]) -> None:
        if not text.isascii() or self._joiner.half:
            text = self._joiner.feed(text)
        if text:
            self._take_in(index, self._splitter.feed(text), deltas)

    def _think(self, index: int, text: str, deltas: list[Delta]) -> None:
        if not text.isascii() or self._joiner.half:
            text = self._joiner.feed(text)
        self._splitter.skip()
        self._write(index, False, text, deltas)

    def _write(self, index: int, words: bool, text: str, deltas: list[Delta]) -> None:
        text = self._room.words(text) if words else self._room.thoughts(text)
        if not text:
            return
        kind = "text" if words else "thinking"
        written = self._latest.get(index)
        if written is None or written.kind != kind or written.signature.startswith(REDACTED):
            if not self._room.part():
                return
            written = self._latest[index] = self._add(kind)
        written.pieces.append(text)
        if words:
            self._words.append(text)
        (add_words if words else add_thoughts)(deltas, text)

    def _take_in(self, index: int, found: list[tuple[Kind, str]], deltas: list[Delta]) -> None:
        """Add pieces that the splitter found.

        After a lone `</think>`, the text before the tag becomes thoughts. A listener has already been sent this text
        as `TextDelta`s, which are not taken back.
        """
        if self._splitter.lone and not self._moved:
            self._moved = True
            for written in self._all:
                if written.kind == "text":
                    written.kind = "thinking"
            self._latest.clear()
            self._words.clear()
        for kind, piece in found:
            self._write(index, kind == "words", piece, deltas)

    def _sign(self, index: int, signature: str) -> None:
        written = self._latest.get(index)
        if written is None or written.kind != "thinking":
            thoughts = [each for each in self._all if each.kind == "thinking" and not each.signature]
            if not thoughts and not self._room.part():
                return
            written = thoughts[-1] if thoughts else self._add("thinking")
        written.signature = self._room.data(signature)

    def _begin_call(self, index: int, block: Given, deltas: list[Delta]) -> None:
        call = self._add("tool_use")
        identity = self._room.data("" if block.id is None else str(block.id))
        taken = {each.id for each in self.calls}
        call.id = identity if identity and identity not in taken else f"toolu_{secrets.token_hex(8)}"
        call.name = self._room.words(block.name or "")
        arguments = self._room.words(bytes(block.input).decode("utf-8", "replace"))
        call.arguments = arguments if arguments.startswith("{") else "{}"
        call.index = len(self.calls)
        self.calls.append(call)
        self._calls.setdefault(index, []).append(call)
        add_tool_call(deltas, call.index, call.id, call.name, "")

    def _argue(self, index: int, piece: str, deltas: list[Delta]) -> None:
        if self._kinds.get(index, "tool_use") not in ("tool_use", "text", "thinking"):
            return  # these are arguments of a tool that runs at the provider
        here = self._calls.get(index, [])
        unfinished = [call for call in here if not (call.closed or call.completeness.whole)]
        if not here and index not in self._kinds:
            unfinished = [call for call in self.calls if not (call.closed or call.completeness.whole)]
        call = unfinished[0] if unfinished else here[-1] if here else None
        if call is None:
            raise ModelError("the stream has arguments of a tool call that never began", "server")
        may_repeat = call.completeness.whole and piece.strip() and can_be_equal(len(piece), call.length)
        if may_repeat and equal(piece, "".join(call.pieces)):
            return  # the server repeats the arguments
        piece = self._room.words(call.joiner.feed(piece))
        call.pieces.append(piece)
        call.length += len(piece)
        call.completeness.feed(piece)
        add_tool_call(deltas, call.index, "", "", piece)

    def _complete(self, call: Written, deltas: list[Delta]) -> None:
        """Use the arguments from the start of the tool call's block, if none came in pieces."""
        if not call.pieces:
            call.pieces.append(call.arguments)
            add_tool_call(deltas, call.index, "", "", call.arguments)
