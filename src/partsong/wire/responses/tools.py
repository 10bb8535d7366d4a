"""Parses the tools of a request to `POST /responses`, and the choice of tools that must or may be called."""

from typing import Any

from msgspec import Raw, Struct

from partsong.errors import RequestError
from partsong.model import Tool
from partsong.wire.freeform import freeform_tool
from partsong.wire.parsed import refuse
from partsong.wire.responses.body import (
    decode,
    given,
    read_anything,
    read_choice,
    read_function,
    read_grammar,
    read_kind,
    read_named,
    read_object,
    read_plain_tool,
)

CALLABLE = ("function", "custom")


class Tools(Struct, frozen=True):
    """The tools of a request.

    by_name: the tools by name
    freeform: names of the tools that take free text
    shown: the field `tools` of the response
    """

    by_name: dict[str, Tool] = {}
    freeform: frozenset[str] = frozenset()
    shown: tuple[dict[str, Any], ...] = ()


def parse_tools(raw: list[Raw]) -> Tools:
    """Parse the field `tools`. Raises `RequestError` for a malformed or unsupported tool, or two tools of one name."""
    by_name: dict[str, Tool] = {}
    freeform: set[str] = set()
    shown: list[dict[str, Any]] = []
    for index, each in enumerate(raw):
        where = f"tools[{index}]"
        match decode(each, read_kind, where).type:
            case "function":
                tool = _function(each, where)
                shown.append(show_tool(tool))
            case "custom":
                tool, told = _freeform(each, where)
                freeform.add(tool.name)
                shown.append(told)
            case kind:
                raise RequestError(
                    f"{where}.type: {kind!r} is no tool that a mixture has; functions and custom tools, which you run, "
                    "can be called",
                    f"{where}.type",
                )
        if tool.name in by_name:
            raise RequestError(f"{where}.name: there are two tools {tool.name!r}", f"{where}.name")
        by_name[tool.name] = tool
    return Tools(by_name, frozenset(freeform), tuple(shown))


def show_tool(tool: Tool) -> dict[str, Any]:
    """Return a function as the response repeats it in its field `tools`."""
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description or None,
        "parameters": Raw(tool.parameters),
        "strict": tool.strict,
    }


def _function(raw: Raw, where: str) -> Tool:
    function = decode(raw, read_function, where)
    refuse(function, {"defer_loading": "tools are not searched, so all are loaded"}, where)
    if function.asynchronous:
        raise RequestError(f"{where}.async: the answer waits for every result", f"{where}.async")
    _check_callers(function.allowed_callers, where)
    schema = b"{}"
    if given(function.parameters):
        decode(function.parameters, read_object, f"{where}.parameters")
        schema = bytes(function.parameters)
    description = function.description or ""
    if given(function.output_schema):  # other APIs have no field for an output schema, so the description names it
        decode(function.output_schema, read_object, f"{where}.output_schema")
        described_output = f"It returns JSON of this schema: {bytes(function.output_schema).decode()}"
        description = f"{description}\n\n{described_output}".lstrip()
    return Tool(function.name, description, schema, function.strict)


def _freeform(raw: Raw, where: str) -> tuple[Tool, dict[str, Any]]:
    custom = decode(raw, read_plain_tool, where)
    refuse(custom, {"defer_loading": "tools are not searched, so all are loaded"}, where)
    if custom.asynchronous:
        raise RequestError(f"{where}.async: the answer waits for every result", f"{where}.async")
    _check_callers(custom.allowed_callers, where)
    syntax = definition = ""
    form: Any = {"type": "text"}
    if given(custom.format):
        kind = decode(custom.format, read_kind, f"{where}.format").type
        if kind == "grammar":
            grammar = decode(custom.format, read_grammar, f"{where}.format")
            syntax, definition = grammar.syntax, grammar.definition
            form = {"type": "grammar", "syntax": syntax, "definition": definition}
        elif kind != "text":
            place = f"{where}.format.type"
            raise RequestError(f'{place}: must be "text" or "grammar"', place)
    tool = freeform_tool(custom.name, custom.description or "", syntax, definition, where)
    return tool, {"type": "custom", "name": custom.name, "description": custom.description, "format": form}


def _check_callers(allowed: list[str] | None, where: str) -> None:
    if allowed not in (None, [], ["direct"]):
        place = f"{where}.allowed_callers"
        raise RequestError(f'{place}: there are no programs that call tools; only "direct" is possible', place)


def parse_choice(raw: Raw, tools: Tools) -> tuple[str | None, tuple[Tool, ...], Any]:
    """Parse `tool_choice`; return the choice, the tools that may be called, and the response's `tool_choice`.

    The choice is "auto", "none", "required", the name of the tool that must be called, or `None` if there is none.

    Raises `RequestError` for an unknown choice, or a tool that is not among `tools`.
    """
    choice = decode(raw, read_choice, "tool_choice") if given(raw) else None
    names, every = tools.by_name, tuple(tools.by_name.values())
    match choice:
        case None:
            return None, every, "auto"
        case "auto" | "none":
            return choice, every, choice
        case "required":
            if not names:
                raise RequestError('tool_choice is "required", but there are no tools', "tool_choice")
            return choice, every, choice
        case str():
            raise RequestError('tool_choice must be "auto", "none", "required" or a tool', "tool_choice")
    if choice.type in CALLABLE:
        if choice.name not in names:
            raise RequestError(f"tool_choice.name: there is no tool {choice.name!r}", "tool_choice.name")
        return choice.name, every, {"type": choice.type, "name": choice.name}
    if choice.type == "allowed_tools":
        left = _allowed(choice.tools, tools)
        return choice.mode or "auto", left, decode(raw, read_anything, "tool_choice")
    raise RequestError(
        f"tool_choice.type: {choice.type!r} is no choice that a mixture has; function, custom and allowed_tools are",
        "tool_choice.type",
    )


def _allowed(raw: list[Raw], tools: Tools) -> tuple[Tool, ...]:
    allowed = set()
    for index, each in enumerate(raw):
        where = f"tool_choice.tools[{index}]"
        named = decode(each, read_named, where)
        if named.type not in CALLABLE or named.name not in tools.by_name:
            raise RequestError(f"{where}: there is no tool {named.name!r} among the tools", where)
        allowed.add(named.name)
    if not allowed:
        raise RequestError("tool_choice.tools must name a tool at least", "tool_choice.tools")
    return tuple(tool for name, tool in tools.by_name.items() if name in allowed)
