"""The fields of a request to `POST /v1/messages` that partsong uses or refuses. All others are ignored.

Fields that may have several types stay raw, and are decoded once their `type` is known. Schemas and arguments stay raw
because they are passed on as bytes.
"""

from typing import Annotated, Any, Literal

from msgspec import Meta, Raw, Struct

Name = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9_-]+\Z")]


class CacheControlGiven(Struct):
    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] = "5m"


class Source(Struct):
    type: str
    media_type: str = ""
    data: str = ""
    url: str = ""
    content: str | list[Raw] | None = None


class Caller(Struct):
    type: str


class Transformations(Struct):
    oversized_image: str | None = None


class ToolNamed(Struct):
    type: str
    name: str | None = None


class Block(Struct):
    """A content block of any type. The type decides which fields are set."""

    type: str
    text: str | None = None
    source: Source | str | None = None
    title: str | None = None
    context: str | None = None
    citations: Any = None
    transformations: Transformations | None = None
    id: str | None = None
    name: str | None = None
    input: Raw = Raw()
    tool_use_id: str | None = None
    tool_name: str | None = None
    tool: ToolNamed | None = None
    toolset_name: str | None = None
    caller: Caller | None = None
    content: str | list[Raw] | dict[str, Any] | None = None
    is_error: bool | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    cache_control: CacheControlGiven | None = None


class Turn(Struct):
    role: Literal["user", "assistant", "system"]
    content: str | list[Raw]
    clear_at: Literal["next_user_message", "never"] | None = None
    output_config: Any = None


class ToolGiven(Struct):
    name: Name | None = None
    description: str | None = None
    input_schema: Raw = Raw()
    type: str | None = None
    cache_control: CacheControlGiven | None = None
    strict: bool | None = None
    eager_input_streaming: bool | None = None
    defer_loading: bool | None = None
    input_examples: list[Raw] | None = None
    allowed_callers: list[str] | None = None


class Choice(Struct):
    type: Literal["auto", "any", "none", "tool"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Thinking(Struct):
    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: Annotated[int, Meta(ge=1)] | None = None


class Format(Struct):
    type: Literal["json_schema"]
    schema: Raw = Raw()


class OutputConfig(Struct):
    effort: Annotated[str, Meta(min_length=1, max_length=32)] | None = None
    format: Format | None = None
    task_budget: Any = None


class Metadata(Struct):
    user_id: str | None = None


class Edit(Struct):
    type: str


class ContextManagement(Struct):
    edits: list[Edit] | None = None


class Body(Struct):
    """The body of a request. A field of the type `Any` is refused unless it is empty."""

    model: Annotated[str, Meta(min_length=1)]
    messages: Annotated[list[Turn], Meta(min_length=1)]
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    system: str | list[Block] | None = None
    temperature: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0)] | None = None
    stop_sequences: list[str] | None = None
    stream: bool | None = None
    tools: list[ToolGiven] | None = None
    tool_choice: Choice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    output_format: Format | None = None
    metadata: Metadata | None = None
    service_tier: Literal["auto", "standard_only"] | None = None
    partsong: Raw = Raw()
    cache_control: CacheControlGiven | None = None
    context_management: ContextManagement | None = None
    speed: Literal["standard", "fast"] | None = None
    billing_policy: Any = None
    compaction: Any = None
    container: Any = None
    fallback_credit_token: Any = None
    fallbacks: Any = None
    inference_geo: Any = None
    mcp_servers: Any = None
    thread: Any = None
