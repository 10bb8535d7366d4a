"""Parses a request to `POST /responses`.

Fields for what a mixture cannot do are refused with an error that names the field. So is every tool that only OpenAI's
servers run. Fields that do not affect the answer (a cache key, obfuscation, the user's name) are accepted.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from partsong.errors import RequestError
from partsong.model import ANY_OBJECT, Conversation, Message, Sampling, Text
from partsong.wire.json import described
from partsong.wire.parsed import Options, ParsedRequest, answerable, parse_options, refuse
from partsong.wire.responses.body import (
    Body,
    decode,
    given,
    read_anything,
    read_body,
    read_kind,
    read_object,
    read_schema,
)
from partsong.wire.responses.items import parse_input
from partsong.wire.responses.tools import Tools, parse_choice, parse_tools

ENCRYPTED = "reasoning.encrypted_content"
LABELS = ("user", "safety_identifier", "prompt_cache_key")
NOTHING: Mapping[str, bytes] = MappingProxyType({})
# Fields that are refused unless they are empty, with the reason.
REFUSED = {
    "access_programs": "there are no such programs here",
    "background_options": "a run in the background begins at once; the recipe's deadline ends it",
    "context_management": "contexts are not compacted; prompts are cut to the models' windows as they must be",
    "conversation": "there are no conversations; use previous_response_id, or send the items",
    "moderation": "nothing is moderated here",
    "prompt": "there are no stored prompts; send instructions and input",
    "top_logprobs": "the logarithms of probabilities are not known of a mixture",
}


def parse_request(data: bytes, known: Mapping[str, bytes] = NOTHING) -> ParsedRequest:
    """Parse the body of a request.

    known: JSON of earlier items, by id, to which the input may refer; none by default

    Raises `RequestError` with the field's path for a malformed or unsupported field.
    """
    body = decode(data, read_body)
    _refuse(body)
    messages, references = parse_input(body.input, known)
    if not messages and not references and not body.previous_response_id:
        raise RequestError("input is missing: a string, or a list with an item at least", "input")
    if body.background and body.store is False:
        raise RequestError("background: the response must be stored to be asked for; leave store out", "background")
    instructions = (Message("system", (Text(body.instructions),)),) if body.instructions else ()
    tools = parse_tools(body.tools or [])
    choice, allowed, shown_choice = parse_choice(body.tool_choice, tools)
    response_format, shown_format = _format(body)
    return ParsedRequest(
        body.model,
        Conversation(
            (*instructions, *answerable(messages)),
            allowed,
            choice,
            response_format,
            _sampling(body),
            body.parallel_tool_calls,
        ),
        stream=bool(body.stream),
        usage_in_stream=True,
        labels=dict(body.metadata or {}) | {name: value for name in LABELS if (value := getattr(body, name))},
        options=parse_options(decode(body.partsong, read_anything, "partsong")) if given(body.partsong) else Options(),
        previous=body.previous_response_id or "",
        keep=body.store is not False,
        echo=_echo(body, tools, shown_choice, shown_format),
        freeform=tools.freeform,
        references=references,
        background=bool(body.background),
    )


def _sampling(body: Body) -> Sampling:
    effort = body.reasoning.effort if body.reasoning else None
    verbosity = body.text.verbosity if body.text else None
    return Sampling(
        body.temperature,
        body.top_p,
        body.max_output_tokens,
        frequency_penalty=body.frequency_penalty,
        presence_penalty=body.presence_penalty,
        effort=effort,
        verbosity=verbosity,
    )


def _echo(body: Body, tools: Tools, shown_choice: Any, shown_format: Any) -> dict[str, Any]:
    """Return the fields of the request that the response repeats. Unset numbers are shown as the API's defaults.

    shown_choice: the field `tool_choice` of the response
    shown_format: the field `text.format` of the response
    """
    reasoning = body.reasoning
    verbosity = body.text.verbosity if body.text else None
    return {
        "background": bool(body.background),
        "frequency_penalty": body.frequency_penalty or 0.0,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "max_tool_calls": body.max_tool_calls,
        "metadata": body.metadata or {},
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "presence_penalty": body.presence_penalty or 0.0,
        "previous_response_id": body.previous_response_id,
        "prompt_cache_key": body.prompt_cache_key,
        "reasoning": {
            "effort": reasoning.effort if reasoning else None,
            "summary": (reasoning.summary or reasoning.generate_summary) if reasoning else None,
        },
        "safety_identifier": body.safety_identifier,
        "store": body.store is not False,
        "temperature": 1.0 if body.temperature is None else body.temperature,
        "text": {"format": shown_format, **({"verbosity": verbosity} if verbosity else {})},
        "tool_choice": shown_choice,
        "tools": tools.shown,
        "top_p": 1.0 if body.top_p is None else body.top_p,
        "truncation": body.truncation or "disabled",
        "user": body.user,
        "include": body.include or [],
    }


def _refuse(body: Body) -> None:
    refuse(body, REFUSED)
    if body.prompt_cache_options:
        why = "nothing is answered without being asked; send the question itself"
        refuse(body.prompt_cache_options, {"prewarm": why}, "prompt_cache_options")
    if body.image and body.image.context_compression == "enabled":
        where = "image.context_compression"
        raise RequestError(f"{where}: pictures are passed on as they are", where)
    if body.service_tier not in (None, "auto", "default"):
        raise RequestError(
            'service_tier must be "auto" or "default": there are no tiers to choose from', "service_tier"
        )
    for index, name in enumerate(body.include or ()):
        if name != ENCRYPTED:
            where = f"include[{index}]"
            raise RequestError(f"{where}: {name!r} cannot be included; {ENCRYPTED!r} can", where)
    if body.reasoning and body.reasoning.mode not in (None, "standard"):
        raise RequestError('reasoning.mode must be "standard": a mixture knows no other', "reasoning.mode")


def _format(body: Body) -> tuple[bytes | None, Any]:
    """Return the JSON Schema of the answer (`None` for plain text), and the field `text.format` of the response."""
    plain = {"type": "text"}
    if body.text is None or not given(raw := body.text.format):
        return None, plain
    match decode(raw, read_kind, "text.format").type:
        case "text":
            return None, plain
        case "json_object":
            return ANY_OBJECT, {"type": "json_object"}
        case "json_schema":
            form = decode(raw, read_schema, "text.format")
            decode(form.schema, read_object, "text.format.schema")
            shown = {"type": "json_schema", "name": form.name, "description": form.description, "schema": form.schema}
            return described(form.schema, form.description), shown | {"strict": bool(form.strict)}
    raise RequestError('text.format.type must be "text", "json_object" or "json_schema"', "text.format.type")
