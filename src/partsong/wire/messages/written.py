"""The content of a message while it is being written, block by block.

The API numbers its blocks and ends one before it begins the next. Servers that imitate it use an index twice, begin
two tool calls at one index, send deltas of blocks that never began, or put thoughts into blocks of text. The rules:

- A block that begins is a new block, also at an index that was used before.
- Words and thoughts are what their delta says they are; a change of kind begins a new part of the answer.
- Arguments belong to the first tool call at their index that has not ended and whose arguments are not complete.
- Parts stand in the order in which a listener has heard them.
"""

import secrets
from typing import Any, Protocol

from partsong.errors import ModelError
from partsong.model import Delta, Part, Reasoning, Text, ToolCall
from partsong.wire.deltas import add_thoughts, add_tool_call, add_words
from partsong.wire.json import Completeness, equal
from partsong.wire.text import Joiner
from partsong.wire.thoughts import Kind, Splitter

REDACTED = "redacted_thinking:"  # marks a signature that is a redacted block's data: only this folder reads it
MEDIA = ("image", "audio", "video", "file")  # within the types of blocks that cannot be passed on


class Given(Protocol):
    """A content block, or a delta of one, as it was decoded."""

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
    """A part of the answer as far as it has been written: its words, thoughts or arguments in `pieces`.

    kind: "text", "thinking" or "tool_use"
    index: of the tool call, among the answer's
    arguments: those that stood at the block's start, which hold if no others come
    """

    __slots__ = ("arguments", "closed", "completeness", "id", "index", "joiner", "kind", "name", "pieces", "signature")

    def __init__(self, kind: str, signature: str = "") -> None:
        self.kind, self.signature = kind, signature
        self.pieces: list[str] = []
        self.id = self.name = ""
        self.arguments = "{}"
        self.index = 0
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
    """The blocks of one message.

    calls: the tool calls among them
    other: the types of blocks whose content cannot be passed on
    """

    __slots__ = ("_all", "_calls", "_joiner", "_kinds", "_latest", "_moved", "_splitter", "_words", "calls", "other")

    def __init__(self, *, thinks_first: bool = False) -> None:
        self.calls: list[Written] = []
        self.other: set[str] = set()
        self._all: list[Written] = []
        self._calls: dict[int, list[Written]] = {}  # the tool calls at each of the server's indexes
        self._latest: dict[int, Written] = {}  # the words or thoughts that were last written at an index
        self._kinds: dict[int, str] = {}  # of the block that began last at an index
        self._words: list[str] = []
        self._moved = False
        self._splitter = Splitter(self._words, thinks_first)
        self._joiner = Joiner()

    def __bool__(self) -> bool:
        return bool(self._all)

    @property
    def lone(self) -> bool:
        """Whether a `</think>` without a beginning has shown that the answer began with thoughts."""
        return self._splitter.lone

    def open(self, index: int, block: Given, deltas: list[Delta]) -> None:
        """A block begins."""
        self._kinds[index] = block.type
        self._latest.pop(index, None)
        match block.type:
            case "tool_use":
                self._begin_call(index, block, deltas)
            case "text":
                self._speak(index, block.text or "", deltas)
            case "thinking":
                self._latest[index] = self._add("thinking", block.signature or "")
                self._think(index, block.thinking or "", deltas)
            case "redacted_thinking":
                self._latest[index] = self._add("thinking", REDACTED + (block.data or ""))
            case kind:  # one that was invented later, or one of a tool that runs at the provider
                if any(name in kind for name in MEDIA) and "tool" not in kind:
                    self.other.add(kind)

    def grow(self, index: int, piece: Given, deltas: list[Delta]) -> None:
        """A delta of a block. Raises `ModelError` for arguments of a tool call that never began."""
        if piece.text:
            self._speak(index, piece.text, deltas)
        elif piece.thinking:
            self._think(index, piece.thinking, deltas)
        elif piece.partial_json:
            self._argue(index, piece.partial_json, deltas)
        elif piece.signature:
            self._sign(index, piece.signature)

    def close(self, index: int, deltas: list[Delta]) -> None:
        """A block ends. Of several tool calls at its index it is the first."""
        call = next((call for call in self._calls.get(index, []) if not call.closed), None)
        if call is not None and self._kinds.get(index) == "tool_use":
            call.closed = True
            self._complete(call, deltas)

    def end(self, deltas: list[Delta], *, whole: bool) -> None:
        """The message has ended; `whole` is whether it was not cut short."""
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
        """Everything that was written, to estimate its tokens."""
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
        if not text:
            return
        kind = "text" if words else "thinking"
        written = self._latest.get(index)
        if written is None or written.kind != kind or written.signature.startswith(REDACTED):
            written = self._latest[index] = self._add(kind)
        written.pieces.append(text)
        if words:
            self._words.append(text)
        (add_words if words else add_thoughts)(deltas, text)

    def _take_in(self, index: int, found: list[tuple[Kind, str]], deltas: list[Delta]) -> None:
        """What was said before a lone `</think>` is thoughts, though whoever listens has heard it as words."""
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
            written = thoughts[-1] if thoughts else self._add("thinking")
        written.signature = signature

    def _begin_call(self, index: int, block: Given, deltas: list[Delta]) -> None:
        call = self._add("tool_use")
        identity = "" if block.id is None else str(block.id)
        taken = {each.id for each in self.calls}
        call.id = identity if identity and identity not in taken else f"toolu_{secrets.token_hex(8)}"
        call.name = block.name or ""
        arguments = bytes(block.input).decode()
        call.arguments = arguments if arguments.startswith("{") else "{}"
        call.index = len(self.calls)
        self.calls.append(call)
        self._calls.setdefault(index, []).append(call)
        add_tool_call(deltas, call.index, call.id, call.name, "")

    def _argue(self, index: int, piece: str, deltas: list[Delta]) -> None:
        if self._kinds.get(index, "tool_use") not in ("tool_use", "text", "thinking"):
            return  # of a tool that runs at the provider
        here = self._calls.get(index, [])
        unfinished = [call for call in here if not (call.closed or call.completeness.whole)]
        if not here and index not in self._kinds:
            unfinished = [call for call in self.calls if not (call.closed or call.completeness.whole)]
        call = unfinished[0] if unfinished else here[-1] if here else None
        if call is None:
            raise ModelError("the stream has arguments of a tool call that never began", "server")
        if call.completeness.whole and piece.strip() and equal(piece, "".join(call.pieces)):
            return  # said again
        piece = call.joiner.feed(piece)
        call.pieces.append(piece)
        call.completeness.feed(piece)
        add_tool_call(deltas, call.index, "", "", piece)

    def _complete(self, call: Written, deltas: list[Delta]) -> None:
        """Pass on the arguments that stood at a block's start, if none came in pieces."""
        if not call.pieces:
            call.pieces.append(call.arguments)
            add_tool_call(deltas, call.index, "", "", call.arguments)
