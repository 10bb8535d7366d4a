"""Assembles the tool calls of one chat completion from the pieces in its chunks.

The API gives each tool call an index. Some compatible servers give all the index 0, no id, one id for all, or a new id
to each piece; some repeat the name, the arguments, or both. `ToolCalls.find` decides to which tool call a piece
belongs. Each of its rules is needed for a server that exists.
"""

import secrets
from collections.abc import Collection

import msgspec

from partsong.model import Delta, ToolCall
from partsong.wire.chat.chunk import Function, Piece
from partsong.wire.deltas import add_tool_call
from partsong.wire.json import Completeness, can_be_equal, equal
from partsong.wire.room import Room
from partsong.wire.text import Joiner

PLACEHOLDER = "{}"  # arguments with which some servers begin a tool call before they send the real arguments
REPEATED = -1  # result of `find` for a piece that repeats a whole tool call
NAMESPACES = ("google", "vertex")  # fields of `extra_content` that may hold Gemini's fields


class ToolCallSoFar:
    """A tool call as far as it has been received.

    id: the unique id that partsong uses
    given: the server's id, which several tool calls may share; "" if the server gave none
    name: the tool's name so far
    pieces: pieces of the arguments' JSON text
    length: number of characters in `pieces`
    signature: Gemini's thought signature, after its namespace and a colon; "" for none
    completeness: tells whether the arguments are complete JSON
    joiner: joins characters that are divided between pieces
    begun: whether a delta with the id was sent
    told: whether a delta with the name was sent
    held: whether the arguments so far are `PLACEHOLDER`, of which no delta was sent
    """

    __slots__ = (
        "begun",
        "completeness",
        "given",
        "held",
        "id",
        "joiner",
        "length",
        "name",
        "pieces",
        "signature",
        "told",
    )

    def __init__(self, identity: str, given: str) -> None:
        self.id, self.given = identity, given
        self.name = self.signature = ""
        self.pieces: list[str] = []
        self.length = 0
        self.completeness = Completeness()
        self.joiner = Joiner()
        self.begun = self.told = self.held = False

    @property
    def arguments(self) -> str:
        return "".join(self.pieces)

    def repeats(self, arguments: str) -> bool:
        """Return whether the arguments hold the same value as those so far."""
        return can_be_equal(len(arguments), self.length) and equal(arguments, self.arguments)


class ToolCalls:
    """The tool calls of one completion so far (`all`)."""

    __slots__ = ("_ids", "_indexes", "_room", "_tools", "all")

    def __init__(self, room: Room, tools: Collection[str] = ()) -> None:
        """Start a completion.

        room: the room for the answer
        tools: names of the declared tools, by which the pieces of a name are recognised
        """
        self._room = room
        self.all: list[ToolCallSoFar] = []
        self._tools = tools
        self._ids: set[str] = set()
        self._indexes: dict[int, int] = {}  # from the server's index to the index in `all`

    def __bool__(self) -> bool:
        return bool(self.all)

    def add(self, piece: Piece, deltas: list[Delta], *, alone: bool = False) -> None:
        """Add a piece of a tool call, and append to `deltas` what can be sent.

        alone: whether the piece is a whole tool call, as in an answer that is not streamed; False by default
        """
        function = piece.function or Function()
        name, arguments = function.name or "", written(function.arguments)
        identity = piece.id if isinstance(piece.id, str) else "" if piece.id is None else str(piece.id)
        index = parse_index(piece.index)
        found = None if alone else self.find(index, identity, name, arguments)
        if found == REPEATED:
            return
        if found is None:
            if not self._room.part():
                return
            found = self._begin(index, self._room.data(identity))
        call = self.all[found]
        if signature := self._room.data(signature_of(piece.extra_content)):
            call.signature = signature
        if name and name != call.name and not call.pieces:
            name = self._room.words(name)
            call.name += name
            if call.told:
                add_tool_call(deltas, found, "", name, "")
        self._tell(found, self._take_in(call, arguments), deltas)

    def find(self, index: int | None, identity: str, name: str, arguments: str) -> int | None:
        """Return the index in `all` of the tool call to which a piece belongs.

        Returns `None` for a piece that begins a tool call, and `REPEATED` for a piece that repeats a whole one.

        index: the server's index; `None` if the piece has none
        identity: the piece's id; "" if it has none
        """
        known = self._known(index, identity)
        if known is None:
            return None
        call = self.all[known]
        if not name:
            ended = call.completeness.whole and not call.held and arguments.strip()
            return REPEATED if ended and call.repeats(arguments) else known
        if not call.name:
            return known
        if identity and identity != call.given:
            return None  # a name with another id
        same = name == call.name
        if call.completeness.whole and not call.held:
            if not arguments.strip():
                return known if same and identity else None
            return REPEATED if same and call.repeats(arguments) else None
        if call.pieces:
            return known if same and (identity or not call.held) else None
        if same:
            return known if identity or index is not None else None
        return known if self._continues(call.name, name, index) else None

    def _known(self, index: int | None, identity: str) -> int | None:
        if index is not None:
            return self._indexes.get(index)
        if identity:
            of_this_id = [at for at, call in enumerate(self.all) if call.given == identity]
            if of_this_id:
                return of_this_id[-1]
        return len(self.all) - 1 if self.all else None

    def _continues(self, start: str, piece: str, index: int | None) -> bool:
        """Return whether `piece` continues the tool name `start`, and is not the name of another tool call.

        index: the server's index, which decides if no tool names are known
        """
        if not self._tools:
            return index is not None
        if start in self._tools and piece in self._tools:
            return False
        return any(tool.startswith(start + piece) for tool in self._tools)

    def _begin(self, index: int | None, identity: str) -> int:
        """Add a tool call, and return its index in `all`.

        Its id must be unique, because a tool result refers to its tool call by the id.
        """
        own = identity if identity and identity not in self._ids else f"call_{secrets.token_hex(8)}"
        self._ids.add(own)
        self.all.append(ToolCallSoFar(own, identity))
        if index is not None:
            self._indexes[index] = len(self.all) - 1
        return len(self.all) - 1

    def _take_in(self, call: ToolCallSoFar, arguments: str) -> str:
        """Add a piece to the arguments of a tool call, and return the text of which a delta can be sent."""
        if not arguments:
            return ""
        if call.held and arguments.strip():
            call.held, call.pieces, call.length, call.completeness = False, [], 0, Completeness()
        begins = not call.pieces and not call.begun and bool(call.name)
        arguments = self._room.words(call.joiner.feed(arguments))
        call.pieces.append(arguments)
        call.length += len(arguments)
        call.completeness.feed(arguments)
        call.held = begins and arguments == PLACEHOLDER
        return "" if call.held else arguments

    def _tell(self, index: int, arguments: str, deltas: list[Delta]) -> None:
        """Append a delta with what is certain of a tool call. The name is certain once no further piece can follow."""
        call = self.all[index]
        identity = name = ""
        if arguments or not self._may_grow(call.name):
            if not call.begun:
                identity, call.begun = call.id, True
            if call.name and not call.told:
                name, call.told = call.name, True
        add_tool_call(deltas, index, identity, name, arguments)

    def _may_grow(self, name: str) -> bool:
        return bool(name) and any(tool.startswith(name) and tool != name for tool in self._tools)

    def end(self, deltas: list[Delta]) -> None:
        """Append deltas with what was held back, since the answer has ended.

        A tool call without arguments gets `{}`, because arguments must be JSON.
        """
        for index, call in enumerate(self.all):
            call.joiner.end()
            arguments = ""
            if call.held or not call.pieces:
                arguments, call.held = PLACEHOLDER, False
                call.pieces = [PLACEHOLDER]
                call.completeness.whole = True
            add_tool_call(deltas, index, "" if call.begun else call.id, "" if call.told else call.name, arguments)
            call.begun = call.told = True

    def parts(self) -> list[ToolCall]:
        return [
            ToolCall(call.id, call.name, call.arguments or PLACEHOLDER, signature=call.signature) for call in self.all
        ]


def written(arguments: object) -> str:
    """Return a tool call's arguments as JSON text. Some servers send a JSON object instead of its text."""
    if arguments is None:
        return ""
    return arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()


def parse_index(value: object) -> int | None:
    """Return a tool call's index, which some servers send as a string; `None` if it is no number."""
    if isinstance(value, str) and value.isdecimal() and len(value) < 10:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def signature_of(extra: object) -> str:
    """Return Gemini's thought signature of a tool call as `namespace:signature`; "" if there is none.

    extra: the piece's field `extra_content`

    The namespace is one of `NAMESPACES`, which must be sent back with the signature.
    """
    for namespace in NAMESPACES:
        fields = extra.get(namespace) if isinstance(extra, dict) else None
        signature = fields.get("thought_signature") if isinstance(fields, dict) else None
        if isinstance(signature, str) and signature:
            return f"{namespace}:{signature}"
    return ""
