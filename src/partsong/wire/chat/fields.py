"""The fields of a request to `POST /chat/completions` that partsong uses or refuses. All others are ignored.

Fields that may have several types stay raw, and are decoded once their `type` is known. Schemas stay raw because the
caller's bytes are passed on.
"""

from typing import Annotated, Any, Literal

from msgspec import Meta, Raw, Struct

Name = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9_-]+\Z")]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Tokens = Annotated[int, Meta(ge=1, le=2**53)]  # some clients send JavaScript's largest integer for "no limit"
Seed = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]


class Function(Struct):
    name: Name
    description: str | None = None
    parameters: Raw = Raw()
    strict: bool | None = None


class Grammar(Struct):
    syntax: Literal["lark", "regex"]
    definition: str


class CustomFormat(Struct):
    type: Literal["text", "grammar"]
    grammar: Grammar | None = None


class Custom(Struct):
    """The declaration of a tool that takes free text."""

    name: Name
    description: str | None = None
    format: CustomFormat | None = None


class ToolGiven(Struct):
    type: str
    function: Raw = Raw()
    custom: Raw = Raw()


class FunctionCalled(Struct):
    name: str
    arguments: str = ""


class CustomCalled(Struct):
    name: str
    input: str = ""


class ToolCallGiven(Struct):
    id: str
    type: str = "function"
    function: FunctionCalled | None = None
    custom: CustomCalled | None = None


class MessageGiven(Struct):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[Raw] | None = None
    tool_calls: list[ToolCallGiven] | None = None
    tool_call_id: str | None = None
    function_call: FunctionCalled | None = None
    name: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    audio: Any = None


class Link(Struct):
    url: str
    detail: Literal["auto", "low", "high", "original"] | None = None


class FileGiven(Struct):
    file_data: str | None = None
    filename: str | None = None
    file_id: str | None = None


class Piece(Struct):
    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: Link | None = None
    file: FileGiven | None = None
    prompt_cache_breakpoint: dict[str, Any] | None = None


class Schema(Struct):
    schema: Raw = Raw()
    description: str | None = None


class Format(Struct):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: Schema | None = None


class StreamOptions(Struct):
    include_usage: bool | None = None


class Allowed(Struct):
    mode: Literal["auto", "required"]
    tools: Annotated[list["Chosen"], Meta(min_length=1)]


class Chosen(Struct):
    """A `tool_choice` that is an object: the one tool that must be called, or the tools that may be called."""

    type: str = "function"
    function: FunctionCalled | None = None
    custom: FunctionCalled | None = None
    allowed_tools: Allowed | None = None

    @property
    def named(self) -> FunctionCalled | None:
        """The one tool that must be called; `None` if the object names none."""
        return self.custom if self.type == "custom" else self.function


class Body(Struct):
    """The body of a request. A field of the type `Any` is refused unless it is empty."""

    model: Annotated[str, Meta(min_length=1)]
    messages: Annotated[list[MessageGiven], Meta(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Meta(ge=1, le=16)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=-1, le=2**53)] | None = None
    max_tokens: Tokens | None = None
    max_completion_tokens: Tokens | None = None
    seed: Seed | None = None
    stop: str | list[str] | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    reasoning_effort: Annotated[str, Meta(min_length=1, max_length=32)] | None = None
    verbosity: Literal["low", "medium", "high"] | None = None
    response_format: Format | None = None
    tools: list[ToolGiven] | None = None
    tool_choice: str | Chosen | None = None
    parallel_tool_calls: bool | None = None
    functions: list[Raw] | None = None
    function_call: str | FunctionCalled | None = None
    metadata: dict[str, str] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    service_tier: str | None = None
    modalities: list[str] | None = None
    partsong: Raw = Raw()
    logprobs: Any = None
    top_logprobs: Any = None
    logit_bias: Any = None
    audio: Any = None
    prediction: Any = None
    web_search_options: Any = None
    moderation: Any = None
