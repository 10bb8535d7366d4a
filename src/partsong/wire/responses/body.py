"""The fields of a request to `POST /responses` that partsong uses or refuses. All others are ignored.

A field that may hold objects of several types (an input item, a tool, a format) stays raw until its `type` is read.
So an error names the faulty field within the object. Schemas stay raw, because they are passed on as bytes.
"""

from typing import Annotated, Any, Literal

from msgspec import Meta, Raw, Struct, field
from msgspec.json import Decoder

from partsong.wire.json import decode_field as decode
from partsong.wire.json import given, join

Name = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9_-]+\Z")]
Metadata = Annotated[
    dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]], Meta(max_length=16)
]
Penalty = Annotated[float, Meta(ge=-2, le=2)]  # a field of the Open Responses standard, which OpenAI's API lacks
Effort = Annotated[str, Meta(min_length=1, max_length=32)]


class Kind(Struct):
    """The type of any object, by which the struct to decode the object is chosen."""

    type: str | None = None


class TextConfig(Struct):
    format: Raw = Raw()
    verbosity: Literal["low", "medium", "high"] | None = None


class Schema(Struct):
    """The field `text.format` of the type `json_schema`: the answer must be JSON of this schema."""

    name: Name
    schema: Raw
    description: str | None = None
    strict: bool | None = None


class ReasoningConfig(Struct):
    effort: Effort | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None
    mode: str | None = None


class Function(Struct):
    """The declaration of a tool of the type `function`."""

    name: Name
    description: str | None = None
    parameters: Raw = Raw()
    strict: bool | None = None
    defer_loading: bool | None = None
    allowed_callers: list[str] | None = None
    asynchronous: bool | None = field(default=None, name="async")
    output_schema: Raw = Raw()


class PlainTool(Struct):
    """The declaration of a tool of the type `custom`, which takes free text."""

    name: Name
    description: str | None = None
    format: Raw = Raw()
    defer_loading: bool | None = None
    allowed_callers: list[str] | None = None
    asynchronous: bool | None = field(default=None, name="async")


class Grammar(Struct):
    """The field `format` of a custom tool, of the type `grammar`: its text must follow this grammar."""

    syntax: Literal["lark", "regex"]
    definition: str


class Choice(Struct):
    """A `tool_choice` that is an object: the one tool that must be called, or the tools that may be called."""

    type: str
    name: str | None = None
    mode: Literal["auto", "required"] | None = None
    tools: list[Raw] = []


class Named(Struct):
    type: str
    name: str | None = None


class CacheOptions(Struct):
    prewarm: bool | None = None


class ImageOptions(Struct):
    context_compression: str | None = None


class Body(Struct):
    """The body of a request. A field of the type `Any` is refused unless it is empty."""

    model: Annotated[str, Meta(min_length=1)]
    input: str | list[Raw] | None = None
    instructions: str | None = None
    previous_response_id: str | None = None
    store: bool | None = None
    stream: bool | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    max_output_tokens: Annotated[int, Meta(ge=1)] | None = None
    tools: list[Raw] | None = None
    tool_choice: Raw = Raw()
    parallel_tool_calls: bool | None = None
    text: TextConfig | None = None
    reasoning: ReasoningConfig | None = None
    metadata: Metadata | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    include: list[str] | None = None
    truncation: Literal["auto", "disabled"] | None = None
    service_tier: str | None = None
    top_logprobs: int | None = None
    prompt_cache_options: CacheOptions | None = None
    image: ImageOptions | None = None
    partsong: Raw = Raw()
    background: bool | None = None
    max_tool_calls: Annotated[int, Meta(ge=1)] | None = None
    access_programs: Any = None
    background_options: Any = None
    context_management: Any = None
    conversation: Any = None
    moderation: Any = None
    prompt: Any = None


__all__ = ["decode", "given", "join"]

read_body = Decoder(Body)
read_kind = Decoder(Kind)
read_schema = Decoder(Schema)
read_function = Decoder(Function)
read_plain_tool = Decoder(PlainTool)
read_grammar = Decoder(Grammar)
read_choice = Decoder(str | Choice | None)
read_named = Decoder(Named)
read_object = Decoder(dict[str, Any])
read_anything = Decoder(Any)
