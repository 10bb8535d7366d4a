"""The tool calls of one chat completion, put together from their pieces.

The API numbers tool calls by an index. Compatible servers number them all 0, or give them no id, one id for all, or an
id for each piece; some repeat the name, the arguments, or both. `ToolCalls.find` holds the rules; each tells apart
two servers that exist.
"""

import secrets
from collections.abc import Collection

import msgspec

from partsong.model import Delta, ToolCall
from partsong.wire.chat.chunk import Function, Piece
from partsong.wire.deltas import add_tool_call
from partsong.wire.json import Completeness, equal
from partsong.wire.text import Joiner

PLACEHOLDER = "{}"  # some servers begin a tool call with it, and send the arguments after it
REPEATED = -1
NAMESPACES = ("google", "vertex")  # of Gemini's fields in `extra_content`


class ToolCallSoFar:
    """A tool call that is being written.

    given: the id that the server gave, which need not be one of its own
    begun: whether the id was passed on
    told: whether the name was passed on
    held: whether the arguments so far are a placeholder, which was not passed on
    """

    __slots__ = ("begun", "completeness", "given", "held", "id", "joiner", "name", "pieces", "signature", "told")

    def __init__(self, identity: str, given: str) -> None:
        self.id, self.given = identity, given
        self.name = self.signature = ""
        self.pieces: list[str] = []
        self.completeness = Completeness()
        self.joiner = Joiner()
        self.begun = self.told = self.held = False

    @property
    def arguments(self) -> str:
        return "".join(self.pieces)


class ToolCalls:
    """The tool calls so far. `tools` are the names that were declared: they tell a name in pieces from two names."""

    __slots__ = ("_indexes", "_tools", "all")

    def __init__(self, tools: Collection[str] = ()) -> None:
        self.all: list[ToolCallSoFar] = []
        self._tools = tools
        self._indexes: dict[int, int] = {}  # the server's index -> ours

    def __bool__(self) -> bool:
        return bool(self.all)

    def add(self, piece: Piece, deltas: list[Delta], *, alone: bool = False) -> None:
        """Take in a piece. One that stands `alone` is a tool call of its own, as in an answer that is not streamed."""
        function = piece.function or Function()
        name, arguments = function.name or "", written(function.arguments)
        identity = piece.id if isinstance(piece.id, str) else "" if piece.id is None else str(piece.id)
        index = parse_index(piece.index)
        found = None if alone else self.find(index, identity, name, arguments)
        if found == REPEATED:
            return
        if found is None:
            found = self._begin(index, identity)
        call = self.all[found]
        if signature := signature_of(piece.extra_content):
            call.signature = signature
        if name and name != call.name and not call.pieces:
            call.name += name
            if call.told:
                add_tool_call(deltas, found, "", name, "")
        self._tell(found, self._take_in(call, arguments), deltas)

    def find(self, index: int | None, identity: str, name: str, arguments: str) -> int | None:
        """Our index of the tool call that a piece goes on with; `None` for one that begins another."""
        known = self._known(index, identity)
        if known is None:
            return None
        call = self.all[known]
        if not name:
            ended = call.completeness.whole and not call.held and arguments.strip()
            return REPEATED if ended and equal(arguments, call.arguments) else known
        if not call.name:
            return known
        if identity and identity != call.given:
            return None  # a name with another id
        same = name == call.name
        if call.completeness.whole and not call.held:
            if not arguments.strip():
                return known if same and identity else None
            return REPEATED if same and equal(arguments, call.arguments) else None
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
        """Whether a piece goes on with a name, and is not a name itself."""
        if not self._tools:
            return index is not None
        if start in self._tools and piece in self._tools:
            return False
        return any(tool.startswith(start + piece) for tool in self._tools)

    def _begin(self, index: int | None, identity: str) -> int:
        """A new tool call. Its id is its own, because results name the call that they belong to."""
        taken = {call.id for call in self.all}
        own = identity if identity and identity not in taken else f"call_{secrets.token_hex(8)}"
        self.all.append(ToolCallSoFar(own, identity))
        if index is not None:
            self._indexes[index] = len(self.all) - 1
        return len(self.all) - 1

    def _take_in(self, call: ToolCallSoFar, arguments: str) -> str:
        """Add to the arguments of a tool call; what of them can be passed on is returned."""
        if not arguments:
            return ""
        if call.held and arguments.strip():
            call.held, call.pieces, call.completeness = False, [], Completeness()
        begins = not call.pieces and not call.begun and bool(call.name)
        arguments = call.joiner.feed(arguments)
        call.pieces.append(arguments)
        call.completeness.feed(arguments)
        call.held = begins and arguments == PLACEHOLDER
        return "" if call.held else arguments

    def _tell(self, index: int, arguments: str, deltas: list[Delta]) -> None:
        """Pass on what is certain of a tool call: its name once no other piece of the name can follow."""
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
        """The answer has ended: pass on what was held. No arguments is an empty object: a tool wants JSON."""
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
    """Arguments as the text of a JSON value; some servers send the value itself."""
    if arguments is None:
        return ""
    return arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()


def parse_index(value: object) -> int | None:
    """A server's index, which some write as a string."""
    if isinstance(value, str) and value.isdecimal() and len(value) < 10:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def signature_of(extra: object) -> str:
    """Gemini's signature of the thoughts that led to a tool call, behind the name of the field that it came in."""
    for namespace in NAMESPACES:
        fields = extra.get(namespace) if isinstance(extra, dict) else None
        signature = fields.get("thought_signature") if isinstance(fields, dict) else None
        if isinstance(signature, str) and signature:
            return f"{namespace}:{signature}"
    return ""
