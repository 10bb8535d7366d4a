"""What a model is: something that answers a request. The one protocol of partsong, and the values it speaks in.

A `Model` is any async callable of the shape `(request, send) -> answer`. Providers are models, and so is everything
that wraps one (a price, a retry, a limit): each is one short file and knows nothing of the others.

Values are frozen msgspec structs: they cost a fifth of a frozen dataclass to make, and they go to JSON and come back
without a line of code. Identity (ids, keys, clocks) is not theirs; it belongs to whoever stores them.
"""

from collections.abc import Awaitable, Callable
from decimal import ROUND_UP, Decimal
from typing import Literal, Protocol

from msgspec import UNSET, Struct, UnsetType, field

Role = Literal["system", "user", "assistant", "tool"]
FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]


# How long a caller wants everything up to a part to stay in the provider's cache: "5m", "1h", or "" for no wish. Only
# providers whose API has such marks are told; to others it says nothing.
CacheControl = Literal["", "5m", "1h"]


class Text(Struct, frozen=True, tag="text", tag_field="type", omit_defaults=True):
    """Words."""

    text: str
    cache_control: CacheControl = field(name="mark", default="")


class Image(Struct, frozen=True, tag="image", tag_field="type", omit_defaults=True):
    """A picture: its bytes with their media type (`image/png`), or a URL that the provider fetches (we never do).

    `detail` is how closely it is looked at (`low`, `high` …), for those who can choose; "" leaves it to the provider.
    """

    data: bytes = b""
    media_type: str = ""
    url: str = ""
    cache_control: CacheControl = field(name="mark", default="")
    detail: str = ""


PDF = "application/pdf"


class Document(Struct, frozen=True, tag="document", tag_field="type", omit_defaults=True):
    """A PDF or a file of text.

    A run reads its documents before its first call. Models that take the file itself get `data`; all others read
    `text`. A document whose `text` or `pages` is set counts as read.

    data: the bytes of the file
    media_type: `application/pdf`, or a type of text such as `text/plain`; "" to tell the type from the bytes
    name: the file's name, as prompts and messages call it
    text: what is read in place of the file; "" before it is read, and for a PDF without text
    pages: pages of a PDF that was read; 0 for text
    pages_read: as many of them, from the first, as `text` covers
    left_out: what `text` lacks of the file, in words; "" for nothing
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
        """What is read in place of the file."""
        return self.text or f"[document {self.name}, pages: {self.pages}, without text that can be read]"

    @property
    def can_be_sent(self) -> bool:
        """Whether a model may get the file itself: a PDF that is within the limits."""
        return bool(self.data) and self.media_type == PDF and self.pages_read == self.pages > 0


class Reasoning(Struct, frozen=True, tag="reasoning", tag_field="type", omit_defaults=True):
    """What a model thought before it spoke. `signature` is opaque: the provider wants it back unchanged."""

    text: str
    signature: str = ""


class ToolCall(Struct, frozen=True, tag="tool_call", tag_field="type", omit_defaults=True):
    """A model asks for a tool; `arguments` is the JSON text exactly as the model wrote it.

    signature: opaque text of Gemini's, which wants it back unchanged with the tool call; "" from other models
    """

    id: str
    name: str
    arguments: str
    cache_control: CacheControl = field(name="mark", default="")
    signature: str = ""


class ToolResult(Struct, frozen=True, tag="tool_result", tag_field="type", omit_defaults=True):
    """What the tool of the call `call_id` returned. Stands in a message of role `tool`."""

    call_id: str
    parts: tuple[Text | Image | Document, ...]
    is_error: bool = False
    cache_control: CacheControl = field(name="mark", default="")


Part = Text | Image | Document | Reasoning | ToolCall | ToolResult


class TextDelta(Struct, frozen=True, tag="text", tag_field="type"):
    """Some more words of the answer."""

    text: str


class ReasoningDelta(Struct, frozen=True, tag="reasoning", tag_field="type"):
    """Some more of the reasoning before the answer."""

    text: str


class ToolCallDelta(Struct, frozen=True, tag="tool_call", tag_field="type", omit_defaults=True):
    """A piece of the `index`-th tool call: `id` and `name` come with the first piece, `arguments` in pieces."""

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


Delta = TextDelta | ReasoningDelta | ToolCallDelta
Send = Callable[[Delta], Awaitable[None]]


class Message(Struct, frozen=True, omit_defaults=True):
    """One turn's words: who speaks, and what they say. `name` tells apart those who speak in one role."""

    role: Role
    parts: tuple[Part, ...]
    name: str = ""

    @property
    def text(self) -> str:
        """The message's text parts, joined."""
        return text_of(self.parts)


class Tool(Struct, frozen=True, omit_defaults=True):
    """A tool that a model may call. `parameters` is its JSON Schema, kept as the bytes that the caller sent.

    With `strict` the provider is asked to let the model write nothing that the schema forbids. The caller of an `eager`
    tool wants the arguments as they are written, before anyone can check them.
    """

    name: str
    description: str = ""
    parameters: bytes = b"{}"
    strict: bool | None = None
    cache_control: CacheControl = field(name="mark", default="")
    eager: bool = False


ANY_OBJECT = b'{"type":"object","additionalProperties":true}'  # as a `response_format`: any JSON object will do


class Sampling(Struct, frozen=True, omit_defaults=True):
    """How a model samples. `None` leaves the provider's default; `max_tokens` counts new tokens.

    `effort` is how much it reasons, in its provider's words (`minimal`, `low`, `medium`, `high` …; `none` for not at
    all), `thinking` at most how many tokens of that; `thinks` is whether it thinks at all, as much as it sees fit, for
    providers that want to be told. `verbosity` is how much it says (`low`, `medium`, `high`). With `top_logprobs` the
    answer comes with the likeliest tokens at each place, where the provider tells them.
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
    """What a caller brings: the messages so far, the last one to be answered, and what the answer may be made of.

    Tools, `tool_choice` (`"auto"`, `"none"`, `"required"` or a tool's name) and `response_format` (a JSON Schema's
    bytes) are the aggregator's alone: it acts, proposers advise. `parallel_tool_calls` says whether it may call several
    at once; `None` leaves the provider's default. `sampling` overrides the aggregator's.
    """

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: str | None = None
    response_format: bytes | None = None
    sampling: Sampling = Sampling()
    parallel_tool_calls: bool | None = None


class Terms(Struct, frozen=True, omit_defaults=True):
    """What the caller allows one call: no part of what is asked, so that it never makes two equal requests differ.

    `until` is when nobody waits for the answer any more, by the running loop's clock. With `once`, a call that may have
    cost something is not made again. `cache` says whether a stored answer will do; `None`: where it would say the same
    again, at a temperature of 0. Where calls must wait, those of one `run` and those of another take turns. `record` is
    the id under which the run is stored, so that its calls can be deleted with it.
    """

    until: float | None = None
    once: bool = False
    cache: bool | None = None
    run: str = ""
    record: str = ""


class Request(Struct, frozen=True, omit_defaults=True):
    """One call to one model.

    `sample` tells apart calls that are otherwise equal (the samples of Self-MoA), so that a cache does not make one of
    them, and a provider whose sampling is seeded does not answer all of them alike.
    """

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: str | None = None
    response_format: bytes | None = None
    sampling: Sampling = Sampling()
    sample: int = 0
    terms: Terms = Terms()
    parallel_tool_calls: bool | None = None


class Usage(Struct, frozen=True):
    """What a call, or a run, has used. Cached input and cache writes are part of the input, reasoning of the output.

    `dollars` is `None` where a price is unknown: unknown is not 0, and a sum with an unknown in it is unknown.
    `estimated` says that the provider did not count, so that we did (high rather than low).
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
_FINEST = Decimal("1e-12")  # dollars: a millionth of what a token costs


def billed(dollars: Decimal) -> Decimal:
    """The dollars of one call, rounded up at 12 decimals if they have more: few enough digits that sums are exact."""
    exponent = dollars.as_tuple().exponent
    if isinstance(exponent, int) and exponent < -12:
        return dollars.quantize(_FINEST, ROUND_UP)
    return dollars


class Caveat(Struct, frozen=True):
    """Something that an answer lacks, in a sentence for people; the run tells it as a loss.

    truncated: the answer may be cut short. shortened: the model was not shown all of the request, or said more than
    can be passed on.
    """

    kind: Literal["truncated", "shortened"]
    message: str


class Answer(Struct, frozen=True):
    """What a model answered. `model` is the id that the provider says answered, whatever was asked for.

    An answer that was found in the store has used nothing: `stored` is what it had used when it was made. `logprobs`
    holds, for each token of the text, the likeliest tokens there with the natural logarithms of their probabilities;
    only where they were asked for, and told. An answer with `caveats` is not as it should be, and is never stored.
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
        """The answer's words: its text parts, joined, without the reasoning."""
        return text_of(self.parts)


class Model(Protocol):
    """Answers a request.

    `send` hears each delta as it comes and is awaited; `None` means that nobody listens and one plain call will do.
    Raises `partsong.ModelError`, and nothing else that is expected. Cancelling the call closes it at the provider.
    """

    async def __call__(self, request: Request, send: Send | None) -> Answer: ...


def text_of(parts: tuple[Part, ...]) -> str:
    """The text parts, joined."""
    return "".join(part.text for part in parts if type(part) is Text)


def asking(
    question: str, *, system: str = "", images: tuple[Image, ...] = (), documents: tuple[Document, ...] = ()
) -> Conversation:
    """A conversation of one turn: a question about documents and pictures, under the caller's system prompt."""
    head = (Message("system", (Text(system),)),) if system else ()
    return Conversation((*head, Message("user", (*documents, *images, Text(question)))))
