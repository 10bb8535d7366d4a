"""What the server's side of each API implements (`Format`, `Stream`), and the values that the server passes to it.

Each API is a package with the functions of `Format`. The methods of its `Stream` return server-sent events as bytes,
ready to be sent.
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
    "cancelled",  # 499: the client has disconnected, so nobody reads the response
    "server",  # 500, 502
    "overloaded",  # 503
    "timeout",  # 504
]


class Problem(Struct, frozen=True):
    """The reason why a request has no answer.

    status: HTTP status of the response
    kind: the problem's kind, which each API translates into its own word
    message: the reason, for people
    field: path of the faulty field in the request, such as `tools[0].name`; `None` by default
    code: partsong's cause (`errors.Cause`) or a code of the API; `None` by default
    retry_after: seconds until the client may ask again; `None` if unknown
    retryable: whether the same request may succeed later; True by default. If False, clients are told not to retry,
        since SDKs otherwise retry the statuses 408, 409, 429 and 500 and above
    request_id: the id of the HTTP request, as in the response's header; "" by default
    partsong: the report on the run (`run`, `losses`, `dollars` …); empty if no run began
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
    """The fields with which each response identifies itself.

    run: the run's id, from which the response's id is made
    created: start of the run, as a Unix time in seconds
    model: the recipe or model that the request named
    completed: end of the run, as a Unix time in seconds; `None` while unknown
    """

    run: str
    created: int
    model: str
    completed: int | None = None


class Stream(Protocol):
    """One streamed response; each method returns server-sent events as bytes.

    `choice` is the index of an answer if the client asked for several (`n`); 0 by default.
    """

    def begin(self) -> bytes:
        """Return the events before the first delta, if the API has any."""

    def say(self, delta: Delta, choice: int = 0) -> bytes:
        """Return the events for a delta of the aggregator."""

    def tell(self, event: bytes, choice: int = 0) -> bytes:
        """Return an event of the run, a JSON object, in a form that clients without knowledge of partsong ignore."""

    def wait(self) -> bytes:
        """Return bytes that keep the connection alive while nothing happens.

        They are an event if the API has one for this purpose, else a comment. Some clients count events alone, and
        give up on a stream that sends nothing but comments.
        """

    def finish(
        self, answers: tuple[Answer, ...], usage: Usage, partsong: dict[str, Any], completed: int | None = None
    ) -> bytes:
        """Return the last events of a stream that succeeded: the finish reasons, the usage and the report on the run.

        answers: the answer of each choice
        usage: what the response reports as its usage
        partsong: the report on the run
        completed: end of the run, as a Unix time in seconds; `None` if unknown
        """

    def fail(self, problem: Problem) -> bytes:
        """Return the last events of a stream that failed before or during the answer."""


class Format(Protocol):
    """The server's side of one API: a package of `partsong.wire` with these names."""

    def parse_request(self, data: bytes, /) -> ParsedRequest:
        """Parse the body of a request. Raises `RequestError` for a malformed body or an unsupported field."""

    def serialize_answer(
        self, request: ParsedRequest, head: Head, answers: tuple[Answer, ...], usage: Usage, partsong: dict[str, Any]
    ) -> bytes:
        """Return the body of a response that is not streamed.

        answers: the answers of the run, one for each of `request.samples`
        usage: what the response reports as its usage
        partsong: the report on the run
        """

    def serialize_error(self, problem: Problem) -> bytes:
        """Return the body of an error response."""

    def Stream(self, request: ParsedRequest, head: Head) -> Stream: ...
