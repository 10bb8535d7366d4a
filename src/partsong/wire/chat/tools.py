"""Parses the tools of a request to Chat Completions, and the choice of tools that must or may be called."""

from collections import Counter
from typing import Any

import msgspec
from msgspec import Raw

from partsong.errors import RequestError
from partsong.model import Tool
from partsong.wire.chat.fields import Body, Chosen, Custom, Function, FunctionCalled
from partsong.wire.freeform import freeform_tool
from partsong.wire.json import decode_field as decode
from partsong.wire.json import given

_function = msgspec.json.Decoder(Function)
_custom = msgspec.json.Decoder(Custom)
_object = msgspec.json.Decoder(dict[str, Any])


def parse_tools(body: Body) -> tuple[tuple[Tool, ...], frozenset[str]]:
    """Return the tools, and the names of the free-text tools among them.

    Raises `RequestError` for a malformed or unsupported tool, and for two tools of one name.
    """
    if body.tools and body.functions:
        raise RequestError("functions: they are the old name of tools; give either", "functions")
    tools: list[Tool] = []
    freeform: set[str] = set()
    for index, tool in enumerate(body.tools or []):
        where = f"tools[{index}]"
        if tool.type not in ("function", "custom"):
            message = f'{where}.type: "{tool.type}" is a tool of its provider\'s; function and custom are understood'
            raise RequestError(message, f"{where}.type")
        raw = tool.custom if tool.type == "custom" else tool.function
        if not given(raw):
            raise RequestError(f"{where}.{tool.type} is missing", f"{where}.{tool.type}")
        if tool.type == "custom":
            tools.append(_freeform(raw, f"{where}.custom"))
            freeform.add(tools[-1].name)
        else:
            tools.append(_tool(raw, f"{where}.function"))
    tools += [_tool(raw, f"functions[{index}]") for index, raw in enumerate(body.functions or [])]
    names = [tool.name for tool in tools]
    if twice := next((name for name, count in Counter(names).items() if count > 1), None):
        raise RequestError(f'tools: "{twice}" is declared twice', "tools")
    return tuple(tools), frozenset(freeform)


def _tool(raw: Raw, where: str) -> Tool:
    function = decode(raw, _function, where)
    schema = b"{}"
    if given(function.parameters):
        decode(function.parameters, _object, f"{where}.parameters")
        schema = bytes(function.parameters)
    return Tool(function.name, function.description or "", schema, function.strict)


def _freeform(raw: Raw, where: str) -> Tool:
    custom = decode(raw, _custom, where)
    form = custom.format
    if form is None or form.type == "text":
        return freeform_tool(custom.name, custom.description or "", "", "", where)
    if form.grammar is None:
        raise RequestError(f"{where}.format.grammar is missing", f"{where}.format.grammar")
    return freeform_tool(custom.name, custom.description or "", form.grammar.syntax, form.grammar.definition, where)


def parse_choice(body: Body, tools: tuple[Tool, ...]) -> tuple[str | None, tuple[Tool, ...]]:
    """Return the choice and the tools that may be called.

    The choice is "auto", "none", "required", the name of the tool that must be called, or `None` if there is none.

    Raises `RequestError` for an unknown choice, and for a tool that is not among `tools`.
    """
    choice: str | Chosen | FunctionCalled | None = body.tool_choice
    field, words = "tool_choice", ["auto", "none", "required"]
    if choice is None and body.function_call is not None:
        choice, field, words = body.function_call, "function_call", ["auto", "none"]
    names = [tool.name for tool in tools]
    if isinstance(choice, Chosen) and choice.type == "allowed_tools":
        return _allowed(choice, tools, field)
    if isinstance(choice, Chosen):
        if choice.type not in ("function", "custom"):
            message = f'{field}.type: "{choice.type}" is not understood; function, custom and allowed_tools are'
            raise RequestError(message, f"{field}.type")
        if choice.named is None:
            raise RequestError(f"{field}.{choice.type} is missing", f"{field}.{choice.type}")
        choice = choice.named
    if isinstance(choice, FunctionCalled):
        if choice.name not in names:
            raise RequestError(f'{field}: there is no tool "{choice.name}"', field)
        return choice.name, tools
    if choice is not None and choice not in words:
        raise RequestError(f"{field}: must be {', '.join(words)} or a function", field)
    if choice == "required" and not tools:
        raise RequestError(f"{field}: is required, but there are no tools", field)
    return choice if tools else None, tools


def _allowed(choice: Chosen, tools: tuple[Tool, ...], field: str) -> tuple[str, tuple[Tool, ...]]:
    if (allowed := choice.allowed_tools) is None:
        raise RequestError(f"{field}.allowed_tools is missing", f"{field}.allowed_tools")
    names = {tool.name for tool in tools}
    left = set()
    for index, each in enumerate(allowed.tools):
        if each.named is None or each.named.name not in names:
            where = f"{field}.allowed_tools.tools[{index}]"
            raise RequestError(f"{where}: there is no such tool among the tools", where)
        left.add(each.named.name)
    return allowed.mode, tuple(tool for tool in tools if tool.name in left)
