"""The aggregator's answer is checked before anyone acts on it: tool calls, and JSON that must fit a schema.

A client breaks if it is handed a call of a tool that it does not have, or arguments that do not fit the tool's schema.
A schema is never fetched. A schema that refers to another address, or that is not valid, is refused before any model
is asked.
"""

from typing import Any

import msgspec

from partsong.engine.code_fence import without_code_fence
from partsong.engine.schemas import misfit, quick_misfit, refused
from partsong.errors import QuestionError
from partsong.model import Answer, Conversation, Part, Tool, ToolCall
from partsong.wire.json import UNREADABLE


async def check_schemas(conversation: Conversation) -> None:
    """Raise `QuestionError` if the schema of a tool or of the answer cannot be used to check anything."""
    schemas = [tool.parameters for tool in conversation.tools]
    if conversation.response_format is not None:
        schemas.append(conversation.response_format)
    if (problem := await refused(schemas)) is not None:
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


async def fault_of(conversation: Conversation, answer: Answer) -> str | None:
    """What is wrong with an answer, in a sentence for the model that wrote it; `None` if nothing is wrong."""
    tool_calls = tool_calls_of(answer)
    choice = conversation.tool_choice
    if choice == "required" and not tool_calls:
        return "One of the tools must be called."
    if choice not in (None, "auto", "none", "required") and not tool_calls:
        return f"The tool {choice} must be called, and no other."
    for tool_call in tool_calls:
        if (fault := await fault_of_tool_call(conversation, tool_call)) is not None:
            return fault
    if conversation.response_format is not None and not tool_calls and answer.finish_reason != "content_filter":
        return await _fault(answer.text, conversation.response_format, "The answer")
    return None


async def fault_of_tool_call(conversation: Conversation, tool_call: ToolCall) -> str | None:
    """What is wrong with a tool call, in a sentence for the model that wrote it; `None` if nothing is wrong."""
    if (fault := fault_of_name(conversation, tool_call.name)) is not None:
        return fault
    return await _fault_of_arguments(_tool_of(conversation, tool_call), tool_call)


def counts(conversation: Conversation, tool_call: ToolCall) -> bool:
    """Whether a proposed tool call is valid: the tool exists, and the arguments fit its schema.

    A schema that would need a process of its own is not tried, since the tool call of the aggregator is checked later.
    """
    if fault_of_name(conversation, tool_call.name) is not None:
        return False
    tool = _tool_of(conversation, tool_call)
    arguments = tool_call.arguments if tool_call.arguments.strip() else "{}"
    return _no_object(tool, arguments) is None and quick_misfit(tool.parameters, arguments) is None


def _tool_of(conversation: Conversation, tool_call: ToolCall) -> Tool:
    return next(tool for tool in conversation.tools if tool.name == tool_call.name)


def fault_of_name(conversation: Conversation, name: str) -> str | None:
    """Why the tool called `name` may not be called, in a sentence for the model; `None` if it may be called."""
    choice = conversation.tool_choice
    if choice == "none":
        return "No tool may be called here."
    if choice not in (None, "auto", "required", name):
        return f"The tool {choice} must be called, and no other."
    names = [tool.name for tool in conversation.tools]
    if name not in names:
        return f"There is no tool {name}; there are: {', '.join(names) or 'none'}."
    return None


async def _fault_of_arguments(tool: Tool, tool_call: ToolCall) -> str | None:
    arguments = tool_call.arguments if tool_call.arguments.strip() else "{}"
    if (fault := _no_object(tool, arguments)) is not None:
        return fault
    wrong = await misfit(tool.parameters, arguments)
    return None if wrong is None else f"The arguments of {tool.name} {wrong}."


def _no_object(tool: Tool, arguments: str) -> str | None:
    try:
        msgspec.json.decode(arguments.encode("utf-8", "surrogatepass"), type=dict[str, Any])
    except UNREADABLE as problem:
        return f"The arguments of {tool.name} are no JSON object: {problem}."
    return None


async def _fault(text: str, schema: bytes, what: str) -> str | None:
    try:
        msgspec.json.decode(text.encode("utf-8", "surrogatepass"))
    except UNREADABLE as problem:
        return f"{what} is no JSON: {problem}."
    wrong = await misfit(schema, text)
    return None if wrong is None else f"{what} {wrong}."
