"""What the server says to a client, before it is written in one of the formats: answers, or a problem.

Each format has the functions and the `Stream` of `Format`; a `Stream` makes the bytes of one streamed response, ready
to be sent, one call for each thing that happens.
"""

from typing import Any, Literal, Protocol

from msgspec import Struct

from partsong.model import Answer, Delta, Usage
from partsong.wire.parsed import ParsedRequest

Kind = Literal[
    "invalid_request",  # 400
    "authentication",  # 401
    "billing",  # 402
    "permission",  # 403
    "not_found",  # 404, 405
    "too_large",  # 413
    "rate_limit",  # 429
    "cancelled",  # 499: the client has left; nobody reads it
    "server",  # 500, 502
    "overloaded",  # 503
    "timeout",  # 504
]


class Problem(Struct, frozen=True):
    """Why there is no answer.

    field: where in the request the problem stands, such as `tools[0].name`
    code: partsong's cause (`errors.Cause`) or a code of the API
    retry_after: seconds until the client may ask again
    retryable: whether the same request may succeed later; SDKs repeat statuses of 408, 409, 429 and from 500 otherwise
    request_id: the id of the HTTP request, as the response's header has it
    partsong: the report on the run, if there was one (`run`, `losses`, `dollars` …)
    """

    status: int
    kind: Kind
    message: str
    field: str | None = None
    code: str | None = None
    retry_after: float | None = None
    retryable: bool = True
    request_id: str = ""
    partsong: dict[str, Any] = {}


class Head(Struct, frozen=True):
    """What a response says of itself.

    run: the run's id
    created: when the run began, as a Unix time in seconds
    model: the model that was asked for
    completed: when the answer was whole, as a Unix time in seconds; `None` as long as that is not known
    """

    run: str
    created: int
    model: str
    completed: int | None = None


class Stream(Protocol):
    """One streamed response, as bytes of server-sent events. `choice` counts the answers, where several are wanted."""

    def begin(self) -> bytes:
        """What comes before the first delta, if anything."""

    def say(self, delta: Delta, choice: int = 0) -> bytes:
        """A delta of the aggregator's."""

    def tell(self, event: bytes, choice: int = 0) -> bytes:
        """An event of the run (a JSON object), in such a way that clients who do not know of it ignore it."""

    def wait(self) -> bytes:
        """What keeps the connection alive while nothing is said: an event if the API has one for it, else a comment.

        Some clients count events alone, and give up on a stream that sends nothing but comments.
        """

    def finish(
        self, answers: tuple[Answer, ...], usage: Usage, partsong: dict[str, Any], completed: int | None = None
    ) -> bytes:
        """The end, with what all of it has used, and the report on the run. `completed` is a Unix time in seconds."""

    def fail(self, problem: Problem) -> bytes:
        """The end, where there is no answer, or only half of one."""


class Format(Protocol):
    """One API's way of writing: a package of `partsong.wire` that has these names."""

    def parse_request(self, body: bytes) -> ParsedRequest:
        """Read a request. Raises `RequestError`."""

    def serialize_answer(
        self, request: ParsedRequest, head: Head, answers: tuple[Answer, ...], usage: Usage, partsong: dict[str, Any]
    ) -> bytes:
        """A response that is not streamed."""

    def serialize_error(self, problem: Problem) -> bytes:
        """The body of an error."""

    def Stream(self, request: ParsedRequest, head: Head) -> Stream: ...
