"""A request to `POST /responses`, as what is asked of a mixture.

What a mixture cannot do is refused by the name of its field, and so is every tool but functions: those of OpenAI's run
on its servers. What changes nothing in the answer (a cache key, obfuscation, who the user is) is taken.
"""

from typing import Any

from msgspec import Raw

from partsong.errors import RequestError
from partsong.model import ANY_OBJECT, Conversation, Message, Sampling, Text, Tool
from partsong.wire.json import described
from partsong.wire.parsed import Options, ParsedRequest, parse_options, refuse
from partsong.wire.responses.body import (
    Body,
    decode,
    given,
    read_anything,
    read_body,
    read_choice,
    read_function,
    read_kind,
    read_named,
    read_object,
    read_schema,
)
from partsong.wire.responses.items import parse_input

ENCRYPTED = "reasoning.encrypted_content"
# Fields that are refused unless they are empty, and why.
REFUSED = {
    "access_programs": "there are no such programs here",
    "background_options": "responses are not made in the background; use stream",
    "background": "responses are not made in the background; use stream",
    "context_management": "contexts are not compacted; prompts are cut to the models' windows as they must be",
    "conversation": "there are no conversations; use previous_response_id, or send the items",
    "max_tool_calls": "it limits the built-in tools, of which there are none",
    "moderation": "nothing is moderated here",
    "prompt": "there are no stored prompts; send instructions and input",
    "top_logprobs": "the logarithms of probabilities are not known of a mixture",
}


def parse_request(body: bytes) -> ParsedRequest:
    """Read a request. Raises `RequestError`, naming the field."""
    said = decode(body, read_body)
    _refuse(said)
    messages = parse_input(said.input)
    if not messages and not said.previous_response_id:
        raise RequestError("input is missing: a string, or a list with an item at least", "input")
    if said.instructions:
        messages.insert(0, Message("system", (Text(said.instructions),)))
    tools, shown = _tools(said.tools or [])
    choice, allowed, shown_choice = _choice(said.tool_choice, tools)
    response_format, shown_format = _format(said)
    reasoning, text = said.reasoning, said.text
    effort = reasoning.effort if reasoning else None
    verbosity = text.verbosity if text else None
    labels = dict(said.metadata or {})
    for name in ("user", "safety_identifier", "prompt_cache_key"):
        if value := getattr(said, name):
            labels[name] = value
    echo = {
        "instructions": said.instructions,
        "max_output_tokens": said.max_output_tokens,
        "metadata": said.metadata or {},
        "parallel_tool_calls": said.parallel_tool_calls is not False,
        "previous_response_id": said.previous_response_id,
        "prompt_cache_key": said.prompt_cache_key,
        "reasoning": {
            "effort": effort,
            "summary": (reasoning.summary or reasoning.generate_summary) if reasoning else None,
        },
        "safety_identifier": said.safety_identifier,
        "store": said.store is not False,
        "temperature": said.temperature,
        "text": {"format": shown_format, **({"verbosity": verbosity} if verbosity else {})},
        "tool_choice": shown_choice,
        "tools": shown,
        "top_p": said.top_p,
        "truncation": said.truncation or "disabled",
        "user": said.user,
        "include": said.include or [],
    }
    return ParsedRequest(
        said.model,
        Conversation(
            tuple(messages),
            allowed,
            choice,
            response_format,
            Sampling(said.temperature, said.top_p, said.max_output_tokens, effort=effort, verbosity=verbosity),
            said.parallel_tool_calls,
        ),
        stream=bool(said.stream),
        usage_in_stream=True,
        labels=labels,
        options=parse_options(decode(said.partsong, read_anything, "partsong")) if given(said.partsong) else Options(),
        previous=said.previous_response_id or "",
        keep=said.store is not False,
        echo=echo,
    )


def _refuse(said: Body) -> None:
    refuse(said, REFUSED)
    if said.prompt_cache_options:
        why = "nothing is answered without being asked; send the question itself"
        refuse(said.prompt_cache_options, {"prewarm": why}, "prompt_cache_options")
    if said.image and said.image.context_compression == "enabled":
        where = "image.context_compression"
        raise RequestError(f"{where}: pictures are passed on as they are", where)
    if said.service_tier not in (None, "auto", "default"):
        raise RequestError(
            'service_tier must be "auto" or "default": there are no tiers to choose from', "service_tier"
        )
    for number, name in enumerate(said.include or ()):
        if name != ENCRYPTED:
            where = f"include[{number}]"
            raise RequestError(f"{where}: {name!r} cannot be included; {ENCRYPTED!r} can", where)
    if said.reasoning and said.reasoning.mode not in (None, "standard"):
        raise RequestError('reasoning.mode must be "standard": a mixture knows no other', "reasoning.mode")


def _tools(raw: list[Raw]) -> tuple[tuple[Tool, ...], list[dict[str, Any]]]:
    """The tools, and what the response shows of them."""
    tools: dict[str, Tool] = {}
    shown: list[dict[str, Any]] = []
    for number, each in enumerate(raw):
        where = f"tools[{number}]"
        if (kind := decode(each, read_kind, where).type) != "function":
            raise RequestError(
                f"{where}.type: {kind!r} is no tool that a mixture has; only functions, which you run, can be called",
                f"{where}.type",
            )
        function = decode(each, read_function, where)
        if function.name in tools:
            raise RequestError(f"{where}.name: there are two tools {function.name!r}", f"{where}.name")
        refuse(function, {"defer_loading": "tools are not searched, so all are loaded"}, where)
        if function.asynchronous:
            raise RequestError(f"{where}.async: the answer waits for every result", f"{where}.async")
        if function.allowed_callers not in (None, [], ["direct"]):
            where = f"{where}.allowed_callers"
            raise RequestError(f'{where}: there are no programs that call; only "direct" is possible', where)
        schema = b"{}"
        if given(function.parameters):
            decode(function.parameters, read_object, f"{where}.parameters")
            schema = bytes(function.parameters)
        description = function.description or ""
        if given(function.output_schema):  # no other provider has a place for it
            decode(function.output_schema, read_object, f"{where}.output_schema")
            described_output = f"It returns JSON of this schema: {bytes(function.output_schema).decode()}"
            description = f"{description}\n\n{described_output}".lstrip()
        tools[function.name] = Tool(function.name, description, schema, function.strict)
        shown.append(
            {
                "type": "function",
                "name": function.name,
                "description": function.description,
                "parameters": Raw(schema),
                "strict": function.strict,
            }
        )
    return tuple(tools.values()), shown


def _choice(raw: Raw, tools: tuple[Tool, ...]) -> tuple[str | None, tuple[Tool, ...], Any]:
    """Which tools must or may be called, the tools that it leaves, and what the response shows of it."""
    said = decode(raw, read_choice, "tool_choice") if given(raw) else None
    names = {tool.name for tool in tools}
    match said:
        case None:
            return None, tools, "auto"
        case "auto" | "none":
            return said, tools, said
        case "required":
            if not tools:
                raise RequestError('tool_choice is "required", but there are no tools', "tool_choice")
            return said, tools, said
        case str():
            raise RequestError('tool_choice must be "auto", "none", "required" or a function', "tool_choice")
    if said.type == "function":
        if said.name not in names:
            raise RequestError(f"tool_choice.name: there is no tool {said.name!r}", "tool_choice.name")
        return said.name, tools, {"type": "function", "name": said.name}
    if said.type == "allowed_tools":
        allowed = set()
        for number, each in enumerate(said.tools):
            where = f"tool_choice.tools[{number}]"
            named = decode(each, read_named, where)
            if named.type != "function" or named.name not in names:
                raise RequestError(f"{where}: there is no function {named.name!r} among the tools", where)
            allowed.add(named.name)
        if not allowed:
            raise RequestError("tool_choice.tools must name a tool at least", "tool_choice.tools")
        left = tuple(tool for tool in tools if tool.name in allowed)
        return said.mode or "auto", left, decode(raw, read_anything, "tool_choice")
    raise RequestError(
        f"tool_choice.type: {said.type!r} is no choice that a mixture has; function and allowed_tools are",
        "tool_choice.type",
    )


def _format(said: Body) -> tuple[bytes | None, Any]:
    """The schema of the answer, if it shall be JSON, and what the response shows of the format."""
    plain = {"type": "text"}
    if said.text is None or not given(raw := said.text.format):
        return None, plain
    match decode(raw, read_kind, "text.format").type:
        case "text":
            return None, plain
        case "json_object":
            return ANY_OBJECT, {"type": "json_object"}
        case "json_schema":
            form = decode(raw, read_schema, "text.format")
            decode(form.schema, read_object, "text.format.schema")
            return described(form.schema, form.description), decode(raw, read_anything, "text.format")
    raise RequestError('text.format.type must be "text", "json_object" or "json_schema"', "text.format.type")
