"""What the aggregator emits is checked before anyone acts on it: calls of tools, and JSON that was to have a schema.

An agent that is handed a call of a tool that it does not have, or with arguments that do not fit, breaks. A schema is
never fetched: one that refers to another address is refused, as is one that is none, before any model is asked.
"""

from typing import TYPE_CHECKING, Any

import msgspec

from partsong.engine.code_fence import without_code_fence
from partsong.errors import QuestionError
from partsong.model import Answer, Conversation, Part, Tool, ToolCall
from partsong.wire.json import UNREADABLE

if TYPE_CHECKING:
    from jsonschema_rs import Validator


def check_schemas(conversation: Conversation) -> None:
    """Raise `QuestionError` for a tool's or an answer's schema against which nothing can be checked."""
    for tool in conversation.tools:
        _validator(tool.parameters, f"the parameters of the tool {tool.name}")
    if conversation.response_format is not None:
        _validator(conversation.response_format, "the schema of the answer")
    choice = conversation.tool_choice
    if choice not in (None, "auto", "none", "required") and choice not in [tool.name for tool in conversation.tools]:
        raise QuestionError(f'tool_choice is "{choice}", but there is no such tool')


def called(answer: Answer) -> tuple[ToolCall, ...]:
    """The calls in an answer."""
    return tuple(part for part in answer.parts if isinstance(part, ToolCall))


def kept(conversation: Conversation, parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """The parts as they go to the client: JSON without a code fence, and the first tool call where one is allowed."""
    if conversation.response_format is not None:
        parts = without_code_fence(parts)
    if conversation.parallel_tool_calls is not False:
        return parts
    first = next((part for part in parts if isinstance(part, ToolCall)), None)
    return tuple(part for part in parts if not isinstance(part, ToolCall) or part is first)


def fault_of(conversation: Conversation, answer: Answer) -> str | None:
    """What is wrong with the answer, in words for whoever wrote it; `None` if nothing is."""
    calls = called(answer)
    choice = conversation.tool_choice
    if choice == "required" and not calls:
        return "One of the tools must be called."
    if choice not in (None, "auto", "none", "required") and not calls:
        return f"The tool {choice} must be called, and no other."
    for call in calls:
        if (fault := fault_of_call(conversation, call)) is not None:
            return fault
    if conversation.response_format is not None and not calls and answer.finish_reason != "content_filter":
        return _fault(answer.text, conversation.response_format, "The answer")
    return None


def fault_of_call(conversation: Conversation, call: ToolCall) -> str | None:
    """What is wrong with one call; `None` if nothing is."""
    if (fault := fault_of_name(conversation, call.name)) is not None:
        return fault
    tool = next(tool for tool in conversation.tools if tool.name == call.name)
    return _fault_of_arguments(tool, call)


def fault_of_name(conversation: Conversation, name: str) -> str | None:
    """Why the tool of this name may not be called; `None` if it may."""
    choice = conversation.tool_choice
    if choice == "none":
        return "No tool may be called here."
    if choice not in (None, "auto", "required", name):
        return f"The tool {choice} must be called, and no other."
    names = [tool.name for tool in conversation.tools]
    if name not in names:
        return f"There is no tool {name}; there are: {', '.join(names) or 'none'}."
    return None


def _fault_of_arguments(tool: Tool, call: ToolCall) -> str | None:
    arguments = call.arguments if call.arguments.strip() else "{}"
    what = f"The arguments of {tool.name}"
    try:
        msgspec.json.decode(arguments.encode("utf-8", "surrogatepass"), type=dict[str, Any])
    except UNREADABLE as problem:
        return f"{what} are no JSON object: {problem}."
    return _fault(arguments, tool.parameters, what)


def _fault(text: str, schema: bytes, what: str) -> str | None:
    try:
        value = msgspec.json.decode(text.encode("utf-8", "surrogatepass"))
    except UNREADABLE as problem:
        return f"{what} is no JSON: {problem}."
    wrong = next(iter(_validator(schema, what).iter_errors(value)), None)
    if wrong is None:
        return None
    place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in wrong.instance_path)
    return f"{what} do not fit the schema{f' at {place}' if place else ''}: {wrong.message}."


def _validator(schema: bytes, what: str) -> "Validator":
    import jsonschema_rs

    def refuse(address: str) -> Any:
        raise ValueError(f"{address} is not fetched")

    try:
        value = msgspec.json.decode(schema)
        return jsonschema_rs.validator_for(value, retriever=refuse)
    except UNREADABLE as problem:
        raise QuestionError(f"{what} is no JSON: {problem}") from None
    except ValueError as problem:
        line = str(problem).partition("\n")[0]
        raise QuestionError(f"{what} is no JSON Schema that can be checked: {line}") from None
