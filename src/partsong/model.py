"""The protocol `Model`, and the values that go into a model and come out: messages, requests, answers, usage.

A `Model` is any async callable of the form `(request, send) -> answer`. Providers are models, and so is everything
that wraps a model (a price, a retry, a limit). Each of them is one short file that does not know the others.

Values are frozen msgspec structs: making one takes a fifth of the time of a frozen dataclass, and msgspec converts
them to JSON and back without code of ours. Values have no ids, keys or times of their own; the store adds these.
"""

from collections.abc import Awaitable, Callable
from decimal import ROUND_UP, Decimal
from typing import Any, Literal, Protocol

from msgspec import UNSET, Struct, UnsetType, field

Role = Literal["system", "user", "assistant", "tool"]
FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]


# How long the provider should cache the prompt up to and including a part: "5m", "1h", or "" for no request. Only
# Anthropic's API has such marks; other providers are not sent them.
CacheControl = Literal["", "5m", "1h"]


class Text(Struct, frozen=True, tag="text", tag_field="type", omit_defaults=True):
    """A text part of a message.

    cache_control: how long the provider should cache the prompt up to this part; "" (default) for no request
    """

    text: str
    cache_control: CacheControl = field(name="mark", default="")


class Image(Struct, frozen=True, tag="image", tag_field="type", omit_defaults=True):
    """An image part of a message: either `data` with `media_type`, or `url`.

    data: the bytes of the image
    media_type: media type of the bytes, such as `image/png`
    url: address that the provider fetches; partsong never fetches it
    cache_control: how long the provider should cache the prompt up to this part; "" (default) for no request
    detail: resolution at which the model looks (`low`, `high` …); "" (default) leaves the choice to the provider
    """

    data: bytes = b""
    media_type: str = ""
    url: str = ""
    cache_control: CacheControl = field(name="mark", default="")
    detail: str = ""


PDF = "application/pdf"


class Document(Struct, frozen=True, tag="document", tag_field="type", omit_defaults=True):
    """A document part of a message: a PDF or a text file.

    A run extracts the text of its documents before its first call. Models that take files get `data`, and all others
    get `text`. A document counts as read if `text` or `pages` is set.

    data: the bytes of the file
    media_type: `application/pdf`, or a type of text such as `text/plain`; "" (default) to detect it from the bytes
    name: the name of the file, for prompts and error messages
    text: the extracted text; "" before the extraction, and for a PDF without text
    pages: number of pages of a PDF; 0 before the extraction, and for a text file
    pages_read: number of pages, from the first, that `text` covers
    left_out: the part of the file that `text` lacks, such as a range of pages; "" if `text` is complete
    cache_control: how long the provider should cache the prompt up to this part; "" (default) for no request
    """

    data: bytes = b""
    media_type: str = ""
    name: str = ""
    text: str = ""
    pages: int = 0
    pages_read: int = 0
    left_out: str = ""
    cache_control: CacheControl = field(name="mark", default="")

    @property
    def is_read(self) -> bool:
        return bool(self.text) or self.pages > 0

    @property
    def as_text(self) -> str:
        """The text of the document for a prompt, or a note that a PDF has no text."""
        return self.text or f"[document {self.name}, pages: {self.pages}, without text that can be read]"

    @property
    def can_be_sent(self) -> bool:
        """Whether a model may get the file itself: the document is a PDF, and all its pages are within the limits."""
        return bool(self.data) and self.media_type == PDF and self.pages_read == self.pages > 0


class Reasoning(Struct, frozen=True, tag="reasoning", tag_field="type", omit_defaults=True):
    """The reasoning that a model wrote before its answer.

    signature: opaque text of the provider, which must be sent back unchanged in later requests; "" if there is none
    """

    text: str
    signature: str = ""


class ToolCall(Struct, frozen=True, tag="tool_call", tag_field="type", omit_defaults=True):
    """A model's request to run a tool.

    id: identifies the tool call, so that a `ToolResult` can refer to it
    name: name of the tool
    arguments: the arguments as JSON text, exactly as the model wrote it
    cache_control: how long the provider should cache the prompt up to this part; "" (default) for no request
    signature: opaque text of Gemini, which must be sent back unchanged with the tool call; "" for other models
    """

    id: str
    name: str
    arguments: str
    cache_control: CacheControl = field(name="mark", default="")
    signature: str = ""


class ToolResult(Struct, frozen=True, tag="tool_result", tag_field="type", omit_defaults=True):
    """The result of a tool call, in a message of the role `tool`.

    call_id: `id` of the `ToolCall`
    parts: what the tool returned
    is_error: whether the tool failed (default: no)
    cache_control: how long the provider should cache the prompt up to this part; "" (default) for no request
    """

    call_id: str
    parts: tuple[Text | Image | Document, ...]
    is_error: bool = False
    cache_control: CacheControl = field(name="mark", default="")


Part = Text | Image | Document | Reasoning | ToolCall | ToolResult


class TextDelta(Struct, frozen=True, tag="text", tag_field="type"):
    """The next piece of the answer's text."""

    text: str


class ReasoningDelta(Struct, frozen=True, tag="reasoning", tag_field="type"):
    """The next piece of the reasoning before the answer."""

    text: str


class ToolCallDelta(Struct, frozen=True, tag="tool_call", tag_field="type", omit_defaults=True):
    """The next piece of a tool call.

    index: index of the tool call among the tool calls of the answer
    id, name: come with the first piece of the tool call; "" in later pieces
    arguments: the next piece of the JSON text
    """

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


Delta = TextDelta | ReasoningDelta | ToolCallDelta
Send = Callable[[Delta], Awaitable[None]]


class Message(Struct, frozen=True, omit_defaults=True):
    """One message of a conversation.

    role: who speaks
    parts: what the message contains, in order
    name: name of the speaker, if several speakers share a role; "" (default) for none
    """

    role: Role
    parts: tuple[Part, ...]
    name: str = ""

    @property
    def text(self) -> str:
        """The text parts of the message, joined without separators."""
        return text_of(self.parts)


class Tool(Struct, frozen=True, omit_defaults=True):
    """A tool that a model may call.

    name: name of the tool
    description: tells the model what the tool does; "" (default) for none
    parameters: JSON Schema of the arguments, as the bytes that the caller sent (default: `{}`, which allows anything)
    strict: whether the provider must force the arguments to fit the schema; `None` leaves the provider's default
    cache_control: how long the provider should cache the prompt up to this tool; "" (default) for no request
    eager: whether the caller wants the arguments streamed while they are written, before they can be checked
    """

    name: str
    description: str = ""
    parameters: bytes = b"{}"
    strict: bool | None = None
    cache_control: CacheControl = field(name="mark", default="")
    eager: bool = False


ANY_OBJECT = b'{"type":"object","additionalProperties":true}'  # a `response_format` that allows any JSON object


class Sampling(Struct, frozen=True, omit_defaults=True):
    """How a model samples its answer. `None` (the default) leaves a setting to the provider.

    temperature: randomness of the sampling; 0 for nearly deterministic answers
    top_p: share of the probability mass, from 0 to 1, among which tokens are sampled
    max_tokens: most output tokens
    seed: seed of the provider's random numbers
    stop: texts at which the answer ends; empty (default) for none
    top_k: number of the likeliest tokens among which tokens are sampled
    frequency_penalty: penalty on a token for each time that it has occurred
    presence_penalty: penalty on a token that has occurred at all
    effort: how much the model reasons, in its provider's words (`none`, `minimal`, `low`, `medium`, `high` …)
    thinking: most tokens of reasoning
    verbosity: how long the answer is (`low`, `medium`, `high`)
    top_logprobs: number of the likeliest tokens to report for each token of the answer, if the provider supports it
    thinks: whether the model reasons at all, to an extent that it chooses itself
    """

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    top_k: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    effort: str | None = None
    thinking: int | None = None
    verbosity: str | None = None
    top_logprobs: int | None = None
    thinks: bool | None = None


class Conversation(Struct, frozen=True, omit_defaults=True):
    """The input of a run. Every field but `messages` concerns the aggregator alone, since proposers only advise.

    messages: the messages so far; the last one is to be answered
    tools: tools that the aggregator may call
    tool_choice: `"auto"`, `"none"`, `"required"` or the name of a tool; `None` leaves the provider's default
    response_format: JSON Schema of the answer, as bytes; `None` for free text
    sampling: settings that replace those of the recipe's aggregator, where they are not `None`
    parallel_tool_calls: whether one answer may have several tool calls; `None` leaves the provider's default
    """

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: str | None = None
    response_format: bytes | None = None
    sampling: Sampling = Sampling()
    parallel_tool_calls: bool | None = None


class Terms(Struct, frozen=True, omit_defaults=True):
    """What the caller of a model allows for one call. Terms are not part of the key under which a call is stored.

    until: time of the running event loop's clock after which nobody waits for the answer; `None` for no limit
    once: whether a failed call that may have cost money must not be retried (default: no)
    cache: whether an answer from the store may be used; `None` (default): only at a temperature of 0
    run: names the run of the call; where calls wait for a limit, different runs take turns
    record: id under which the run of the call is stored, so that the call can be deleted with it; "" for none
    room: most characters of the answer that are of use; `None` (default) for as many as are kept of any answer
    """

    until: float | None = None
    once: bool = False
    cache: bool | None = None
    run: str = ""
    record: str = ""
    room: int | None = None


class Request(Struct, frozen=True, omit_defaults=True):
    """One request to one model. See `Conversation` for the fields that are not explained here.

    messages: the whole prompt
    sampling: how the model samples its answer
    sample: distinguishes requests that are otherwise equal, such as the samples of Self-MoA (default 0). Each gets its
        own entry in the store, and a seeded provider gives each its own answer.
    terms: what the caller allows for this call
    extra: further fields of the request's body at the provider (default: none)
    """

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: str | None = None
    response_format: bytes | None = None
    sampling: Sampling = Sampling()
    sample: int = 0
    terms: Terms = Terms()
    parallel_tool_calls: bool | None = None
    extra: dict[str, Any] = {}


class Usage(Struct, frozen=True):
    """The tokens and dollars that a call or a run has used. Usages can be added with `+`.

    input_tokens: tokens of the prompt, including `cached_input_tokens` and `cache_write_tokens`
    output_tokens: tokens of the answer, including `reasoning_tokens`
    cached_input_tokens: prompt tokens that the provider read from its cache
    reasoning_tokens: output tokens of reasoning
    dollars: the price; `None` (default) if it is unknown. A sum with an unknown price is unknown.
    estimated: whether partsong estimated the tokens (rather too high), because the provider did not report them
    cache_write_tokens: prompt tokens that the provider wrote to its cache
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0
    reasoning_tokens: int = 0
    dollars: Decimal | None = None
    estimated: bool = False
    cache_write_tokens: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        unknown = self.dollars is None or other.dollars is None
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cached_input_tokens + other.cached_input_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
            None if unknown else self.dollars + other.dollars,  # type: ignore[operator]
            self.estimated or other.estimated,
            self.cache_write_tokens + other.cache_write_tokens,
        )


NOTHING_USED = Usage(dollars=Decimal(0))
_FINEST = Decimal("1e-12")  # dollars: a millionth of the price of one token at a dollar a million


def billed(dollars: Decimal) -> Decimal:
    """The price of one call in dollars, rounded up to 12 decimals. Sums of prices with so few digits stay exact."""
    exponent = dollars.as_tuple().exponent
    if isinstance(exponent, int) and exponent < -12:
        return dollars.quantize(_FINEST, ROUND_UP)
    return dollars


class Caveat(Struct, frozen=True):
    """A shortcoming of an answer. The run reports it as a loss.

    kind: "truncated" if the answer may be incomplete; "shortened" if the model did not get the whole request, or if
        the answer has parts that cannot be passed on
    message: the shortcoming in a sentence, for people
    """

    kind: Literal["truncated", "shortened"]
    message: str


class Answer(Struct, frozen=True):
    """The answer of a model.

    parts: text, reasoning and tool calls, in order
    finish_reason: why the answer ended
    usage: tokens and dollars of the call; zero for an answer from the store
    model: name of the model that answered, as the provider reports it; it may differ from the requested name
    stored: for an answer from the store, the usage of the call that made it; else `None`
    logprobs: for each token of the text, a dict from the likeliest tokens to the natural logarithms of their
        probabilities; `UNSET` if they were not requested or the provider does not report them
    caveats: shortcomings of the answer; `UNSET` if there are none. An answer with caveats is never stored.
    """

    parts: tuple[Part, ...]
    finish_reason: FinishReason = "stop"
    usage: Usage = Usage()
    model: str = ""
    stored: Usage | None = None
    logprobs: tuple[dict[str, float], ...] | UnsetType = UNSET
    caveats: tuple[Caveat, ...] | UnsetType = UNSET

    @property
    def text(self) -> str:
        """The text parts of the answer, joined without separators; reasoning and tool calls are left out."""
        return text_of(self.parts)


class Model(Protocol):
    """Any async callable that answers a request.

    request: the prompt and its settings
    send: is awaited with each delta as it arrives; `None` if the answer need not be streamed

    A model raises `partsong.ModelError` if the call fails. Cancelling the call closes the connection to the provider.
    """

    async def __call__(self, request: Request, send: Send | None) -> Answer: ...


def text_of(parts: tuple[Part, ...]) -> str:
    """The text parts among `parts`, joined without separators."""
    return "".join(part.text for part in parts if type(part) is Text)


def asking(
    question: str, *, system: str = "", images: tuple[Image, ...] = (), documents: tuple[Document, ...] = ()
) -> Conversation:
    """A conversation with one question.

    system: system prompt; "" (default) for none
    images: images that come before the question (default: none)
    documents: documents that come before the images (default: none)
    """
    head = (Message("system", (Text(system),)),) if system else ()
    return Conversation((*head, Message("user", (*documents, *images, Text(question)))))
