"""A request to `POST /v1/messages`, as what is asked of a mixture; and to `/v1/messages/count_tokens`.

A turn that brings tools' results becomes one message of role `tool`, with whatever else stands in it: harnesses put
reminders beside results, and those are not the user speaking again.
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
from partsong.wire.messages.fields import Block, Body, CacheControlGiven, Choice, Format, ToolGiven, Turn
from partsong.wire.parsed import Options, ParsedRequest, parse_options, refuse

REFUSED = {
    "billing_policy": "whoever has given this server its keys is billed",
    "compaction": "conversations are not summarised; prompts are cut to the models' windows as they must be",
    "container": "there are no containers; give tools of your own",
    "fallback_credit_token": "no such tokens are given out here",
    "inference_geo": "where the models run is their providers' choice",
    "thread": "no conversations are kept here; send all the messages",
    "mcp_servers": "this server calls no other; give tools of your own",
}
# What was thought in earlier turns is not what a mixture answers from, so clearing it changes nothing.
CLEARS_THINKING = "clear_thinking_"
_body = msgspec.json.Decoder(Body)
_anything = msgspec.json.Decoder(Any)
_object = msgspec.json.Decoder(dict[str, Any])


def parse_request(body: bytes) -> ParsedRequest:
    """Read a request. Raises `RequestError`, naming the field."""
    said = decode(body, _body)
    if said.max_tokens is None:
        raise RequestError("max_tokens is missing", "max_tokens")
    return _parsed(said)


def parse_count(body: bytes) -> ParsedRequest:
    """Read a request whose tokens are to be counted. Raises `RequestError`."""
    return _parsed(decode(body, _body))


def _parsed(said: Body) -> ParsedRequest:
    refuse(said, REFUSED)
    if said.fallbacks not in (None, [], "default"):  # which says: whatever this model has
        raise RequestError("fallbacks: the recipe says who takes a model's place", "fallbacks")
    if said.speed == "fast":
        raise RequestError('speed: "fast" is not to be had here; "standard" is', "speed")
    for at, edit in enumerate((said.context_management.edits or ()) if said.context_management else ()):
        if not edit.type.startswith(CLEARS_THINKING):
            where = f"context_management.edits[{at}].type"
            why = "contexts are not edited; prompts are cut to the models' windows as they must be"
            raise RequestError(f"{where}: {edit.type}: {why}", where)
    messages = [_told(said.system)] if said.system else []
    loaded: Loaded = {}
    spoke = max((at for at, turn in enumerate(said.messages) if turn.role == "user"), default=-1)
    for at, turn in enumerate(said.messages):
        where = f"messages[{at}]"
        refuse(turn, {"output_config": "effort is one for the whole request; say it in output_config"}, where)
        told = _messages(turn, where, loaded)
        if turn.role == "system" and (not told[0].parts or (turn.clear_at == "next_user_message" and at < spoke)):
            continue
        if turn.role == "system" and messages and messages[-1].role in ("user", "tool"):
            # A harness's reminder beside the user's words: answers follow the user's turn, whatever is said with it.
            messages[-1] = Message(messages[-1].role, (*messages[-1].parts, Text("\n\n"), *told[0].parts))
        else:
            messages += told
    if not messages:
        raise RequestError("messages: nobody says anything", "messages")
    if messages[-1].role == "assistant":
        where = f"messages[{len(said.messages) - 1}]"
        raise RequestError(f"{where}: the last turn must be the user's: an answer cannot be begun for a mixture", where)
    if said.cache_control is not None:
        messages[-1] = _marked(messages[-1], said.cache_control)
    declared = [(tool, _tool(tool, f"tools[{at}]")) for at, tool in enumerate(said.tools or [])]
    tools = tuple(made for tool, made in declared if loaded.get(made.name, not tool.defer_loading))
    choice = said.tool_choice
    thinking, output = said.thinking, said.output_config
    if output:
        why = "tokens are not budgeted across requests; partsong.max_dollars limits one"
        refuse(output, {"task_budget": why}, "output_config")
    effort = output.effort if output else None
    if thinking is not None and thinking.type == "disabled":
        effort = effort or "none"
    sampling = Sampling(
        temperature=said.temperature,
        top_p=said.top_p,
        max_tokens=said.max_tokens,
        stop=tuple(said.stop_sequences or ()),
        top_k=said.top_k or None,
        effort=effort,
        thinking=thinking.budget_tokens if thinking is not None and thinking.type == "enabled" else None,
        thinks={"adaptive": True, "disabled": False}.get(thinking.type) if thinking is not None else None,
    )
    return ParsedRequest(
        said.model,
        Conversation(
            tuple(messages),
            tools,
            _choice(choice, tools),
            _format((output.format if output else None) or said.output_format),
            sampling,
            False if choice is not None and choice.disable_parallel_tool_use else None,
        ),
        stream=bool(said.stream),
        labels={"user": said.metadata.user_id} if said.metadata and said.metadata.user_id else {},
        options=parse_options(decode(said.partsong, _anything, "partsong")) if given(said.partsong) else Options(),
    )


def _told(system: str | list[Block]) -> Message:
    if isinstance(system, str):
        return Message("system", (Text(system),))
    parts = []
    for at, block in enumerate(system):
        if block.type != "text" or block.text is None:
            raise RequestError(f"system[{at}]: must be a block of text", f"system[{at}]")
        # One paragraph each, as they are joined where the caller's blocks are not known.
        parts.append(Text(block.text if at == 0 else f"\n\n{block.text}", parse_cache_control(block.cache_control)))
    return Message("system", tuple(parts))


def _messages(turn: Turn, where: str, loaded: Loaded) -> list[Message]:
    parts = parse_blocks(turn.content, turn.role, f"{where}.content", loaded)
    results = tuple(part for part in parts if isinstance(part, ToolResult))
    if not results:
        return [Message(turn.role, parts)]
    return [Message("tool", (*results, *(part for part in parts if not isinstance(part, ToolResult))))]


def _marked(message: Message, wish: CacheControlGiven) -> Message:
    """The message with a mark on the last of its parts that can bear one."""
    for at in range(len(message.parts) - 1, -1, -1):
        part = message.parts[at]
        if not isinstance(part, Reasoning):
            marked = replace(part, cache_control=part.cache_control or parse_cache_control(wish))
            return replace(message, parts=(*message.parts[:at], marked, *message.parts[at + 1 :]))
    return message


def _tool(tool: ToolGiven, where: str) -> Tool:
    if tool.type not in (None, "custom"):
        message = f'{where}.type: "{tool.type}" is a tool of its provider\'s; only tools of your own are understood'
        raise RequestError(message, f"{where}.type")
    if tool.name is None:
        raise RequestError(f"{where}.name is missing", f"{where}.name")
    if not given(tool.input_schema):
        raise RequestError(f"{where}.input_schema is missing", f"{where}.input_schema")
    decode(tool.input_schema, _object, f"{where}.input_schema")
    check_callers(tool.allowed_callers, None, f"{where}.allowed_callers")
    description = tool.description or ""
    if tool.input_examples:  # other providers have no place for them
        examples = "\n".join(bytes(example).decode() for example in tool.input_examples)
        description = f"{description}\n\nExamples of its input:\n{examples}".lstrip()
    eager, cache_control = bool(tool.eager_input_streaming), parse_cache_control(tool.cache_control)
    return Tool(tool.name, description, bytes(tool.input_schema), tool.strict, cache_control, eager)


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
