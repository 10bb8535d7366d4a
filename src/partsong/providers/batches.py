"""The Batch APIs of OpenAI and Anthropic: many calls are one job, which ends within 24 hours, at half the price.

Sources: OpenAI's API reference (`/v1/files`, `/v1/batches`) and Anthropic's (`/v1/messages/batches`), as of November
2026. Both return results in any order, so each call has an id of ours (`custom_id`). OpenAI allows one model in a job,
so every job has the calls of one model.

Submission is not idempotent. So each job has a label that is known before, and `find` looks for a job whose submission
was not answered: OpenAI keeps the label as metadata. Anthropic keeps none, so a job is recognised by its moment and its
number of calls, and its results by their ids.
"""

import re
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import IO, Any, Literal, Protocol

import aiohttp
import msgspec
from msgspec import Struct
from yarl import URL

from partsong.errors import ModelError
from partsong.model import Answer, Request
from partsong.providers.anthropic import Anthropic
from partsong.providers.exchange import Format, whole_answer
from partsong.providers.http import FAULTS, LONGEST_REJECTION, Endpoint
from partsong.providers.openai import OpenAI
from partsong.providers.quirks import Lesson, Quirks
from partsong.providers.rejection import hidden, read_problem, read_rejection, shortened
from partsong.wire import chat, messages

MOST_PAGES = 50  # pages of a provider's list of jobs that are searched
PAGE = 100  # jobs of a page
EARLIER = 120.0  # seconds by which the provider's clock may be behind
HALF = re.compile(r"(^|\.)(openai|anthropic)\.com$")  # hosts whose jobs cost half of single calls
CUSTOM_ID = "custom_id"

Call = tuple[str, Request]  # the id of a call, and its request
Find = Callable[[str], Request | None]


class State(Struct, frozen=True):
    """The state of a job.

    ended: whether no further result will come
    refused: why the provider has refused the job as a whole; "" if it has not
    done: calls that have ended, as far as the provider says
    """

    ended: bool
    refused: str = ""
    done: int = 0


class Jobs(Protocol):
    """One model's jobs at a provider. Every method raises `ModelError` if the provider cannot be reached or refuses.

    most_calls: most calls of a job
    most_bytes: most bytes of a job
    half: whether the provider bills jobs at half the price of single calls
    """

    most_calls: int
    most_bytes: int
    half: bool

    def line(self, call: Call) -> bytes:
        """A call as it is written into a job."""

    async def submit(self, label: str, lines: IO[bytes], size: int) -> str:
        """Submit a job, and return the provider's id of the job.

        lines: a file with the lines of the calls, each with a newline
        size: bytes of the file
        """

    async def find(self, label: str, began: float, size: int, known: Collection[str]) -> str | None:
        """The id of a job that was submitted without an answer; `None` if the provider has no such job.

        began: Unix time before which the job was not submitted
        size: number of its calls
        known: ids of jobs that it is not
        """

    async def state(self, name: str) -> State: ...

    def results(self, name: str, find: Find) -> AsyncIterator[tuple[str, Answer | ModelError]]:
        """The results of a job that has ended, in any order: the id of each call, with its answer or its failure.

        find: the request of a call, from its id; `None` for a call whose result is left out

        A call without a result has expired, or was cancelled.
        """


def jobs_of(model: object) -> Jobs | None:
    """The jobs of a provider's model; `None` if its API has none."""
    match model:
        case OpenAI():
            return OpenAIJobs(model)
        case Anthropic():
            return AnthropicJobs(model)
        case _:
            return None


@dataclass(frozen=True, slots=True)
class _Server:
    """Requests to a provider's server, beside those of its models."""

    endpoint: Endpoint
    base: URL

    @asynccontextmanager
    async def asked(
        self, method: Literal["GET", "POST"], path: str, *, query: Mapping[str, str] | None = None, **body: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request. Yields a response with a status of success; raises `ModelError` for any other."""
        endpoint = self.endpoint
        url = self.base.with_path(f"{self.base.raw_path.rstrip('/')}/{path}", encoded=True, keep_query=True)
        headers = dict(endpoint.headers)
        if not isinstance(body.get("data"), bytes):
            headers.pop("Content-Type", None)  # of a form, or of a request without a body
        headers.update(body.pop("headers", {}))
        try:
            async with endpoint.http.session.request(
                method,
                url.update_query(query or {}),
                headers=headers,
                proxy=endpoint.proxy,
                allow_redirects=False,
                **body,
            ) as response:
                if not 200 <= response.status < 300:
                    told = await response.content.read(LONGEST_REJECTION)
                    raise read_rejection(response.status, response.headers, told, endpoint.secret).error()
                yield response
        except FAULTS as fault:
            fault.with_traceback(None)
            raise endpoint.explain(fault) from None

    async def json(self, method: Literal["GET", "POST"], path: str, **more: Any) -> dict[str, Any]:
        """The JSON object that the server answers."""
        limit = self.endpoint.http.bounds.answer_megabytes << 20
        async with self.asked(method, path, **more) as response:
            pieces, size = [], 0
            async for piece in response.content.iter_any():
                pieces.append(piece)
                size += len(piece)
                if size > limit:
                    raise ModelError(f"{self.endpoint.host} answered more than {limit:,} bytes", "server")
        try:
            value = msgspec.json.decode(b"".join(pieces))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise ModelError(f"{self.endpoint.host} answered no JSON object", "server")
        return value

    async def lines(self, path: str) -> AsyncIterator[dict[str, Any]]:
        """The lines of a file of JSON objects. A line that is none is left out: its call counts as not answered."""
        limit = self.endpoint.http.bounds.answer_megabytes << 20
        async with self.asked("GET", path) as response:
            rest = b""
            async for piece in response.content.iter_any():
                *whole, rest = (rest + piece).split(b"\n")
                if len(rest) > limit:
                    raise ModelError(f"a result of {self.endpoint.host} has more than {limit:,} bytes", "server")
                for line in whole:
                    if (value := _object(line)) is not None:
                        yield value
            if (value := _object(rest)) is not None:
                yield value


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        value = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


@dataclass(frozen=True, slots=True)
class _Calls:
    """The calls of a job: written and read as single calls are."""

    endpoint: Endpoint
    wire: Format
    name: str
    quirks: Quirks

    def body(self, request: Request) -> dict[str, Any]:
        lesson = Lesson(self.quirks, lambda rules: self.wire.body(request, self.name, stream=False, rules=rules))
        return lesson.body()

    async def answer(self, request: Request, document: bytes) -> Answer | ModelError:
        try:
            return await whole_answer(self.endpoint, self.wire, request, document)
        except ModelError as error:
            return error

    def failure(self, status: int, body: Any) -> ModelError:
        """The error of a single call."""
        data = msgspec.json.encode(body)[:LONGEST_REJECTION]
        if status:
            return read_rejection(status, {}, data, self.endpoint.secret).error()
        return read_problem(data, self.endpoint.secret).error()


class OpenAIJobs:
    """Jobs of OpenAI's Batch API, and of servers that have copied it: at most 50,000 calls and 200 MB in a file."""

    most_calls, most_bytes = 50_000, 190_000_000

    def __init__(self, model: OpenAI) -> None:
        base = model.endpoint.url.with_path(
            model.endpoint.url.raw_path.removesuffix("/chat/completions"), encoded=True, keep_query=True
        )
        self._server = _Server(model.endpoint, base)
        self._calls = _Calls(model.endpoint, chat, model.name, model.quirks)
        self.half = HALF.search(model.endpoint.url.host or "") is not None

    def line(self, call: Call) -> bytes:
        body = self._calls.body(call[1])
        return msgspec.json.encode({CUSTOM_ID: call[0], "method": "POST", "url": "/v1/chat/completions", "body": body})

    async def submit(self, label: str, lines: IO[bytes], size: int) -> str:
        form = aiohttp.FormData(quote_fields=False)
        form.add_field("purpose", "batch")
        form.add_field("file", lines, filename=f"{label}.jsonl", content_type="application/jsonl")
        file = await self._server.json("POST", "files", data=form)
        asked = {
            "input_file_id": str(file.get("id", "")),
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
            "metadata": {"partsong": label},
        }
        job = await self._server.json("POST", "batches", data=msgspec.json.encode(asked))
        return _name(job, self._server.endpoint.host)

    async def find(self, label: str, began: float, size: int, known: Collection[str]) -> str | None:
        after = ""
        for _ in range(MOST_PAGES):
            query = {"limit": str(PAGE)} | ({"after": after} if after else {})
            page = await self._server.json("GET", "batches", query=query)
            jobs = [job for job in page.get("data") or [] if isinstance(job, dict)]
            for job in jobs:
                if (job.get("metadata") or {}).get("partsong") == label:
                    return _name(job, self._server.endpoint.host)
            created = jobs[-1].get("created_at") if jobs else None
            if not page.get("has_more") or not jobs or (isinstance(created, int) and created < began - EARLIER):
                return None
            after = str(jobs[-1].get("id", ""))
        return None

    async def state(self, name: str) -> State:
        job = await self._server.json("GET", f"batches/{name}")
        counts = job.get("request_counts") or {}
        done = int(counts.get("completed") or 0) + int(counts.get("failed") or 0)
        match job.get("status"):
            case "completed" | "expired" | "cancelled":
                return State(True, done=done)
            case "failed":
                told = (job.get("errors") or {}).get("data") or [{}]
                why = shortened(hidden(str(told[0].get("message") or "no reason given"), self._server.endpoint.secret))
                return State(True, why)
            case _:
                return State(False, done=done)

    async def results(self, name: str, find: Find) -> AsyncIterator[tuple[str, Answer | ModelError]]:
        job = await self._server.json("GET", f"batches/{name}")
        for file in (job.get("output_file_id"), job.get("error_file_id")):
            if not file:
                continue
            async for line in self._server.lines(f"files/{URL.build(path=str(file)).raw_path}/content"):
                request = find(identity := str(line.get(CUSTOM_ID)))
                response = line.get("response")
                if request is None or not isinstance(response, dict):
                    continue  # expired: the call is made again
                status = response.get("status_code")
                if status == 200:
                    yield identity, await self._calls.answer(request, msgspec.json.encode(response.get("body")))
                else:
                    yield identity, self._calls.failure(status if isinstance(status, int) else 0, response.get("body"))


class AnthropicJobs:
    """Jobs of Anthropic's Message Batches API: at most 100,000 calls and 256 MB."""

    most_calls, most_bytes = 100_000, 250_000_000

    def __init__(self, model: Anthropic) -> None:
        self._server = _Server(model.endpoint, model.endpoint.url)
        self._calls = _Calls(model.endpoint, messages, model.name, model.quirks)
        self.half = HALF.search(model.endpoint.url.host or "") is not None

    def line(self, call: Call) -> bytes:
        return msgspec.json.encode({CUSTOM_ID: call[0], "params": self._calls.body(call[1])})

    async def submit(self, label: str, lines: IO[bytes], size: int) -> str:
        async def body() -> AsyncIterator[bytes]:
            before = b'{"requests":['
            for line in lines:
                yield before + line.rstrip(b"\n")
                before = b","
            yield b"]}"

        # Each newline becomes a comma or ends the list.
        length = size - 1 + len(b'{"requests":[') + len(b"]}")
        headers = {"Content-Type": "application/json", "Content-Length": str(length)}
        job = await self._server.json("POST", "batches", data=body(), headers=headers)
        return _name(job, self._server.endpoint.host)

    async def find(self, label: str, began: float, size: int, known: Collection[str]) -> str | None:
        after = ""
        for _ in range(MOST_PAGES):
            query = {"limit": str(PAGE)} | ({"after_id": after} if after else {})
            page = await self._server.json("GET", "batches", query=query)
            jobs = [job for job in page.get("data") or [] if isinstance(job, dict)]
            for job in jobs:
                if (moment := _moment(job.get("created_at"))) is not None and moment < began - EARLIER:
                    return None
                counts = job.get("request_counts") or {}
                if sum(count for count in counts.values() if isinstance(count, int)) == size and job["id"] not in known:
                    return _name(job, self._server.endpoint.host)
            if not page.get("has_more") or not jobs:
                return None
            after = str(page.get("last_id") or jobs[-1].get("id", ""))
        return None

    async def state(self, name: str) -> State:
        job = await self._server.json("GET", f"batches/{name}")
        counts = job.get("request_counts") or {}
        done = sum(count for kind, count in counts.items() if kind != "processing" and isinstance(count, int))
        return State(job.get("processing_status") == "ended", done=done)

    async def results(self, name: str, find: Find) -> AsyncIterator[tuple[str, Answer | ModelError]]:
        # The address in `results_url` could be that of another host, which must not see the key.
        async for line in self._server.lines(f"batches/{name}/results"):
            request = find(identity := str(line.get(CUSTOM_ID)))
            result = line.get("result")
            if request is None or not isinstance(result, dict):
                continue
            if result.get("type") == "succeeded":
                yield identity, await self._calls.answer(request, msgspec.json.encode(result.get("message")))
            elif result.get("type") == "errored":
                yield identity, self._calls.failure(0, result.get("error"))
            # "expired" and "canceled" calls are made again


def _name(job: Mapping[str, Any], host: str) -> str:
    """The id of a job. Raises `ModelError` if it is none."""
    name = job.get("id")
    if not isinstance(name, str) or re.fullmatch(r"[\w.:-]{1,200}", name) is None:
        raise ModelError(f"{host} gave a job no id", "server")
    return name


def _moment(text: Any) -> float | None:
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return None
