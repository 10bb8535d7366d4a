"""Answers and problems, as the server hands them to one of the three formats to be written.

Each format is a package with the functions of `Format`. Its `Stream` makes the bytes of one streamed response: each
method returns the events for one thing that happens, ready to be sent.
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
    """One streamed response, as bytes of server-sent events. `choice` is the index of an answer among several."""

    def begin(self) -> bytes:
        """The events before the first delta, if the format has any."""

    def say(self, delta: Delta, choice: int = 0) -> bytes:
        """The events for a delta of the aggregator."""

    def tell(self, event: bytes, choice: int = 0) -> bytes:
        """An event of the run (a JSON object), written so that other clients ignore it."""

    def wait(self) -> bytes:
        """Bytes that keep the connection alive in silence: an event if the API has one for it, else a comment.

        Some clients count events alone, and give up on a stream that sends nothing but comments.
        """

    def finish(
        self, answers: tuple[Answer, ...], usage: Usage, partsong: dict[str, Any], completed: int | None = None
    ) -> bytes:
        """The end: how each answer ended, the usage, and the report on the run. `completed` is a Unix time."""

    def fail(self, problem: Problem) -> bytes:
        """The end of a stream that has no answer, or half of one."""


class Format(Protocol):
    """One API's way of reading and writing: a package of `partsong.wire` with these names."""

    def parse_request(self, data: bytes, /) -> ParsedRequest:
        """Parse a request. Raises `RequestError`."""

    def serialize_answer(
        self, request: ParsedRequest, head: Head, answers: tuple[Answer, ...], usage: Usage, partsong: dict[str, Any]
    ) -> bytes:
        """A response that is not streamed."""

    def serialize_error(self, problem: Problem) -> bytes:
        """The body of an error."""

    def Stream(self, request: ParsedRequest, head: Head) -> Stream: ...
