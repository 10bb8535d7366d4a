"""The aggregator's answer is checked before anyone acts on it: tool calls, and JSON that must fit a schema.

A client breaks if it is handed a call of a tool that it does not have, or arguments that do not fit the tool's schema.
A schema is never fetched. A schema that refers to another address, or that is not valid, is refused before any model
is asked.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from partsong.bounds import Bounds
from partsong.engine.code_fence import without_code_fence
from partsong.engine.schemas import misfit, misfits, refused
from partsong.errors import QuestionError
from partsong.model import Answer, Conversation, Part, Tool, ToolCall
from partsong.wire.json import UNREADABLE


async def check_schemas(conversation: Conversation, bounds: Bounds) -> None:
    """Raise `QuestionError` if the schema of a tool or of the answer cannot be used, or if there are too many tools."""
    if len(conversation.tools) > bounds.tools:
        message = f"tools: there are {len(conversation.tools):,}, but at most {bounds.tools:,} are taken"
        raise QuestionError(message, "tools")
    schemas = [tool.parameters for tool in conversation.tools]
    if conversation.response_format is not None:
        schemas.append(conversation.response_format)
    if (problem := await refused(schemas, bounds)) is not None:
        if problem.index < len(conversation.tools):
            what = f"the parameters of the tool {conversation.tools[problem.index].name}"
            raise QuestionError(f"tools[{problem.index}]: {what}: {problem.why}", f"tools[{problem.index}]")
        raise QuestionError(f"response_format: the schema of the answer: {problem.why}", "response_format")


def check_choice(conversation: Conversation) -> None:
    """Raise `QuestionError` if `tool_choice` names a tool that the conversation does not have."""
    choice = conversation.tool_choice
    if choice not in (None, "auto", "none", "required") and choice not in [tool.name for tool in conversation.tools]:
        raise QuestionError(f'tool_choice is "{choice}", but there is no such tool')


def tool_calls_of(answer: Answer) -> tuple[ToolCall, ...]:
    """The tool calls in an answer."""
    return tuple(part for part in answer.parts if isinstance(part, ToolCall))


def kept(conversation: Conversation, parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """The parts of an answer that the client gets.

    If the answer must be JSON, a code fence around it is removed. If `parallel_tool_calls` is false, only the first
    tool call is kept.
    """
    if conversation.response_format is not None:
        parts = without_code_fence(parts)
    if conversation.parallel_tool_calls is not False:
        return parts
    first = next((part for part in parts if isinstance(part, ToolCall)), None)
    return tuple(part for part in parts if not isinstance(part, ToolCall) or part is first)


async def fault_of(conversation: Conversation, answer: Answer, bounds: Bounds) -> str | None:
    """What is wrong with an answer, in a sentence for the model that wrote it; `None` if nothing is wrong."""
    tool_calls = tool_calls_of(answer)
    choice = conversation.tool_choice
    if choice == "required" and not tool_calls:
        return "One of the tools must be called."
    if choice not in (None, "auto", "none", "required") and not tool_calls:
        return f"The tool {choice} must be called, and no other."
    faults = await faults_of_tool_calls(conversation, tool_calls, bounds)
    if (fault := next((fault for fault in faults if fault is not None), None)) is not None:
        return fault
    if conversation.response_format is not None and not tool_calls and answer.finish_reason != "content_filter":
        return await _fault(answer.text, conversation.response_format, "The answer", bounds)
    return None


async def faults_of_tool_calls(
    conversation: Conversation, tool_calls: Sequence[ToolCall], bounds: Bounds
) -> list[str | None]:
    """For each tool call, what is wrong, in a sentence for the model that wrote it; `None` if nothing is wrong."""
    tools = {tool.name: tool for tool in conversation.tools}
    faults: list[str | None] = []
    checks: list[tuple[bytes, str]] = []
    waiting: list[int] = []
    for index, tool_call in enumerate(tool_calls):
        if index:
            await asyncio.sleep(0)  # an answer may have thousands of tool calls
        tool = tools.get(tool_call.name)
        fault = _fault_of_name(conversation.tool_choice, tools, tool_call.name)
        arguments = tool_call.arguments if tool_call.arguments.strip() else "{}"
        if fault is None and tool is not None and (fault := _no_object(tool, arguments)) is None:
            checks.append((tool.parameters, arguments))
            waiting.append(index)
        faults.append(fault)
    for index, wrong in zip(waiting, await misfits(checks, bounds), strict=True):
        if wrong is not None:
            faults[index] = f"The arguments of {tool_calls[index].name} {wrong}."
    return faults


def fault_of_name(conversation: Conversation, name: str) -> str | None:
    """Why the tool called `name` may not be called, in a sentence for the model; `None` if it may be called."""
    return _fault_of_name(conversation.tool_choice, {tool.name: tool for tool in conversation.tools}, name)


def _fault_of_name(choice: str | None, tools: Mapping[str, Tool], name: str) -> str | None:
    if choice == "none":
        return "No tool may be called here."
    if choice not in (None, "auto", "required", name):
        return f"The tool {choice} must be called, and no other."
    if name not in tools:
        return f"There is no tool {name}; there are: {', '.join(tools) or 'none'}."
    return None


def _no_object(tool: Tool, arguments: str) -> str | None:
    try:
        msgspec.json.decode(arguments.encode("utf-8", "surrogatepass"), type=dict[str, Any])
    except UNREADABLE as problem:
        return f"The arguments of {tool.name} are no JSON object: {problem}."
    return None


async def _fault(text: str, schema: bytes, what: str, bounds: Bounds) -> str | None:
    try:
        msgspec.json.decode(text.encode("utf-8", "surrogatepass"))
    except UNREADABLE as problem:
        return f"{what} is no JSON: {problem}."
    wrong = await misfit(schema, text, bounds)
    return None if wrong is None else f"{what} {wrong}."
