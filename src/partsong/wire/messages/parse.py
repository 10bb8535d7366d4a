"""Parses requests to `POST /v1/messages` and `POST /v1/messages/count_tokens`.

A turn with tool results becomes one message of the role `tool`, which also holds the turn's other parts. Clients such
as coding agents put reminders beside results, and these reminders are no new words of the user.
"""

from typing import Any

import msgspec
from msgspec.structs import replace

from partsong.errors import RequestError
from partsong.model import (
    Conversation,
    Message,
    Reasoning,
    Sampling,
    Text,
    Tool,
    ToolResult,
)
from partsong.wire.json import decode_field as decode
from partsong.wire.json import given
from partsong.wire.messages.blocks import Loaded, check_callers, parse_blocks, parse_cache_control
from partsong.wire.messages.builtin import builtin
from partsong.wire.messages.fields import Block, Body, CacheControlGiven, Choice, Format, ToolGiven, Turn
from partsong.wire.parsed import Options, ParsedRequest, answerable, parse_options, refuse
from partsong.wire.told import plain

REFUSED = {
    "billing_policy": "whoever has given this server its keys is billed",
    "compaction": "conversations are not summarised; prompts are cut to the models' windows as they must be",
    "container": "there are no containers; give tools of your own",
    "fallback_credit_token": "no such tokens are given out here",
    "inference_geo": "where the models run is their providers' choice",
    "thread": "no conversations are kept here; send all the messages",
    "mcp_servers": "this server calls no other; give tools of your own",
}
# Prefix of the context edits that are accepted: a mixture does not read earlier reasoning, so they have no effect.
CLEARS_THINKING = "clear_thinking_"
_body = msgspec.json.Decoder(Body)
_anything = msgspec.json.Decoder(Any)
_object = msgspec.json.Decoder(dict[str, Any])


def parse_request(data: bytes) -> ParsedRequest:
    """Parse the body of a request.

    Raises `RequestError` with the field's path for a malformed or unsupported field.
    """
    body = decode(data, _body)
    if body.max_tokens is None:
        raise RequestError("max_tokens is missing", "max_tokens")
    _refuse(body)
    loaded: Loaded = {}
    messages = _conversation(body, loaded)
    if not messages:
        raise RequestError("messages: nobody says anything", "messages")
    if messages[-1].role == "assistant":
        where = f"messages[{len(body.messages) - 1}]"
        raise RequestError(f"{where}: the last turn must be the user's: an answer cannot be begun for a mixture", where)
    messages = list(answerable(messages))
    if body.cache_control is not None:
        messages[-1] = _marked(messages[-1], body.cache_control)
    tools = _tools(body, loaded)
    choice, output = body.tool_choice, body.output_config
    return ParsedRequest(
        body.model,
        Conversation(
            tuple(messages),
            tools,
            _choice(choice, tools),
            _format((output.format if output else None) or body.output_format),
            _sampling(body),
            False if choice is not None and choice.disable_parallel_tool_use else None,
        ),
        stream=bool(body.stream),
        labels={"user": body.metadata.user_id} if body.metadata and body.metadata.user_id else {},
        options=parse_options(decode(body.partsong, _anything, "partsong")) if given(body.partsong) else Options(),
    )


def parse_count(data: bytes) -> ParsedRequest:
    """Parse the body of a request to count tokens. Fields that a mixture does not support are allowed.

    A conversation that a mixture cannot read becomes text, the JSON of its content, so that its tokens can be counted.
    Raises `RequestError` for a malformed body.
    """
    body = decode(data, _body)
    try:
        loaded: Loaded = {}
        messages, tools = _conversation(body, loaded), _tools(body, loaded)
    except RequestError:
        messages = [
            Message(turn.role, (Text(_raw(turn.content, f"messages[{index}].content")),))
            for index, turn in enumerate(body.messages)
        ]
        messages += [Message("system", (Text(_raw(body.system, "system")),))] if body.system else []
        tools = tuple(
            Tool(tool.name or "", tool.description or "", bytes(tool.input_schema)) for tool in body.tools or ()
        )
    return ParsedRequest(body.model, Conversation(tuple(messages), tools))


def _raw(content: Any, where: str) -> str:
    """The JSON of a content. Raises `RequestError` if it is none: what was not interpreted has not been read yet."""
    if isinstance(content, str):
        return content
    blocks = decode(msgspec.json.encode(content), _anything, where)
    return msgspec.json.encode(plain(blocks)).decode()  # without encoded files, which no model reads as text


def _refuse(body: Body) -> None:
    refuse(body, REFUSED)
    if body.fallbacks not in (None, [], "default"):  # "default": the fallbacks that this model has anyway
        raise RequestError("fallbacks: the recipe says who takes a model's place", "fallbacks")
    if body.speed == "fast":
        raise RequestError('speed: "fast" is not to be had here; "standard" is', "speed")
    for index, edit in enumerate((body.context_management.edits or ()) if body.context_management else ()):
        if not edit.type.startswith(CLEARS_THINKING):
            where = f"context_management.edits[{index}].type"
            why = "contexts are not edited; prompts are cut to the models' windows as they must be"
            raise RequestError(f"{where}: {edit.type}: {why}", where)
    if body.output_config:
        why = "tokens are not budgeted across requests; partsong.max_dollars limits one"
        refuse(body.output_config, {"task_budget": why}, "output_config")


def _conversation(body: Body, loaded: Loaded) -> list[Message]:
    """Return the messages of the system prompt and the turns.

    loaded: receives the tools that the conversation loads (True) or removes (False)
    """
    messages = [_told(body.system)] if body.system else []
    spoke = max((index for index, turn in enumerate(body.messages) if turn.role == "user"), default=-1)
    for index, turn in enumerate(body.messages):
        where = f"messages[{index}]"
        refuse(turn, {"output_config": "effort is one for the whole request; say it in output_config"}, where)
        told = _messages(turn, where, loaded)
        if turn.role == "system" and (not told[0].parts or (turn.clear_at == "next_user_message" and index < spoke)):
            continue
        if turn.role == "system" and messages and messages[-1].role in ("user", "tool"):
            # A reminder of the client's after the user's turn. The reminder joins the turn, because models answer the
            # user's turn.
            messages[-1] = Message(messages[-1].role, (*messages[-1].parts, Text("\n\n"), *told[0].parts))
        else:
            messages += told
    return messages


def _sampling(body: Body) -> Sampling:
    thinking, output = body.thinking, body.output_config
    effort = output.effort if output else None
    if thinking is not None and thinking.type == "disabled":
        effort = effort or "none"
    return Sampling(
        temperature=body.temperature,
        top_p=body.top_p,
        max_tokens=body.max_tokens,
        stop=tuple(word for word in body.stop_sequences or () if word),  # clients with an input form may send ""
        top_k=body.top_k or None,
        effort=effort,
        thinking=thinking.budget_tokens if thinking is not None and thinking.type == "enabled" else None,
        thinks={"adaptive": True, "disabled": False}.get(thinking.type) if thinking is not None else None,
    )


def _tools(body: Body, loaded: Loaded) -> tuple[Tool, ...]:
    """Return the tools that can be called at the end of the conversation.

    loaded: tools that the conversation has loaded (True) or removed (False), by name
    """
    declared = [(tool, _tool(tool, f"tools[{index}]")) for index, tool in enumerate(body.tools or [])]
    return tuple(made for tool, made in declared if loaded.get(made.name, not tool.defer_loading))


def _told(system: str | list[Block]) -> Message:
    if isinstance(system, str):
        return Message("system", (Text(system),))
    parts = []
    for index, block in enumerate(system):
        if block.type != "text" or block.text is None:
            raise RequestError(f"system[{index}]: must be a block of text", f"system[{index}]")
        # Blocks are paragraphs, because APIs without such blocks join the texts.
        text = block.text if index == 0 else f"\n\n{block.text}"
        parts.append(Text(text, parse_cache_control(block.cache_control)))
    return Message("system", tuple(parts))


def _messages(turn: Turn, where: str, loaded: Loaded) -> list[Message]:
    parts = parse_blocks(turn.content, turn.role, f"{where}.content", loaded)
    results = tuple(part for part in parts if isinstance(part, ToolResult))
    if not results:
        return [Message(turn.role, parts)]
    return [Message("tool", (*results, *(part for part in parts if not isinstance(part, ToolResult))))]


def _marked(message: Message, wish: CacheControlGiven) -> Message:
    """Return the message with a cache mark on its last part that can have one, which is any but reasoning."""
    for index in range(len(message.parts) - 1, -1, -1):
        part = message.parts[index]
        if not isinstance(part, Reasoning):
            marked = replace(part, cache_control=part.cache_control or parse_cache_control(wish))
            return replace(message, parts=(*message.parts[:index], marked, *message.parts[index + 1 :]))
    return message


def _tool(tool: ToolGiven, where: str) -> Tool:
    check_callers(tool.allowed_callers, None, f"{where}.allowed_callers")
    eager, cache_control = bool(tool.eager_input_streaming), parse_cache_control(tool.cache_control)
    if tool.type not in (None, "custom"):
        if (known := builtin(tool.type)) is None:
            message = f'{where}.type: "{tool.type}" runs at its provider; tools that you run are understood'
            raise RequestError(message, f"{where}.type")
        if tool.name is None:
            raise RequestError(f"{where}.name is missing", f"{where}.name")
        description, schema = known
    else:
        if tool.name is None:
            raise RequestError(f"{where}.name is missing", f"{where}.name")
        if not given(tool.input_schema):
            raise RequestError(f"{where}.input_schema is missing", f"{where}.input_schema")
        decode(tool.input_schema, _object, f"{where}.input_schema")
        description, schema = tool.description or "", bytes(tool.input_schema)
    if tool.input_examples:  # other APIs have no field for examples
        examples = "\n".join(bytes(example).decode() for example in tool.input_examples)
        description = f"{description}\n\nExamples of its input:\n{examples}".lstrip()
    return Tool(tool.name, description, schema, tool.strict, cache_control, eager)


def _choice(choice: Choice | None, tools: tuple[Tool, ...]) -> str | None:
    if choice is None or not tools:
        if choice is not None and choice.type in ("any", "tool"):
            raise RequestError("tool_choice: a tool must be called, but there are none", "tool_choice")
        return None
    if choice.type != "tool":
        return "required" if choice.type == "any" else choice.type
    if choice.name not in [tool.name for tool in tools]:
        raise RequestError(f'tool_choice.name: there is no tool "{choice.name}"', "tool_choice.name")
    return choice.name


def _format(form: Format | None) -> bytes | None:
    if form is None:
        return None
    decode(form.schema, _object, "output_config.format.schema")
    return bytes(form.schema)
