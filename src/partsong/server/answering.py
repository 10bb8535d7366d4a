"""Answers one request: parses and authorizes it, performs the run, and writes the answer in the API of the request.

Each event of the run goes to the recorder, the report, the spans and the stream. The stream passes the aggregator's
deltas on to the client as they come. A client that disconnects cancels its run, and with it every call of the run.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
from msgspec.structs import replace

from partsong.bounds import Bounds
from partsong.engine import perform
from partsong.engine.again import models_asked
from partsong.engine.recalled import Again, Unasked
from partsong.engine.tracebacks import let_go
from partsong.errors import PartsongError, RequestError
from partsong.events import AggregationDelta, AnyEvent, ProposalDelta, RunStarted, to_json
from partsong.heavy import done
from partsong.keys import Key
from partsong.model import NOTHING_USED, Answer, Conversation, Model, Usage
from partsong.recipe import Recipe
from partsong.server.bodies import read_body
from partsong.server.incoming import headers_of, identify, identity_headers, request_id, until_left
from partsong.server.problems import ProblemError, failed, internal, presentable, problem_headers, unusable
from partsong.server.report import Report
from partsong.server.response import EventStream, Headers, Receive, Scope, SendBytes, SlowReaderError, send_json
from partsong.server.service import STOPPING, Service, caller_of
from partsong.server.staying import mute
from partsong.server.stored import going_on, labels_of, look_up
from partsong.store import new_id
from partsong.wire import responses
from partsong.wire.extent import ExtentError, check_extent
from partsong.wire.json import UNREADABLE
from partsong.wire.parsed import Options, ParsedRequest, parse_options
from partsong.wire.reply import Format, Head, Problem

LOG = logging.getLogger("partsong.server")
LONG = 128 * 1024  # bytes of a body that is parsed in a thread
OPTIONS = "x-partsong"  # this header holds options as JSON, for clients that cannot add a field to the body


@dataclass(frozen=True, slots=True)
class Api:
    """One of the APIs: its name in logs and metrics, and the format of its requests and responses."""

    name: str
    format: Format


@dataclass(frozen=True, slots=True)
class Asked:
    """What one request asks for.

    recipe: the recipe that is performed, with the options and the limits of the request
    again: what the run finds of an earlier one; `None` (default) for nothing
    """

    parsed: ParsedRequest
    recipe: Recipe
    again: Again | None = None

    @property
    def models(self) -> tuple[str, ...]:
        """The ids of the models that may be asked."""
        return self.recipe.models if self.again is None else models_asked(self.recipe, self.again)


class Ask(Protocol):
    """Finds out what a request asks for. Raises `ProblemError` or `PartsongError` if the request cannot be answered."""

    async def __call__(
        self, api: Api, service: Service, body: bytes, headers: Mapping[str, str], key: Key | None, scope: Scope
    ) -> Asked: ...


async def ask_api(
    api: Api, service: Service, body: bytes, headers: Mapping[str, str], key: Key | None, scope: Scope
) -> Asked:
    """What a request to one of the three APIs asks for.

    A long body is parsed in a thread, so that other requests are answered meanwhile.
    """
    parse = api.format.parse_request
    parsed = await done(len(body) >= LONG, parse, body)
    if (options := headers.get(OPTIONS)) is not None:
        parsed = replace(parsed, options=options_of(options, service.configuration.bounds))
    recipe = await service.recipe_for(parsed, key)
    if parsed.background and not service.stays:
        why = "runs go on alone only in a server of one process, or with PostgreSQL, whose store keeps everything"
        raise RequestError(f"background: {why}", "background")
    if parsed.references:
        known = await look_up(service, parsed.references, key)
        again = await done(True, responses.parse_request, body, known)
        parsed = replace(again, options=parsed.options)
    if parsed.previous:
        parsed = await going_on(service, parsed, key)
    return Asked(parsed, recipe)


@dataclass(frozen=True, slots=True, eq=False)
class Answering:
    """An ASGI application that answers the requests of one API.

    service: returns the service of the server, which must have started
    ask: finds out what a request asks for
    """

    api: Api
    service: Callable[[], Service]
    ask: Ask = ask_api

    async def __call__(self, scope: Scope, receive: Receive, send: SendBytes) -> None:
        service = self.service()
        request = _Request(self.api, service, scope, send, self.ask)
        # What the request counts, from before its body is read until its run has ended.
        async with AsyncExitStack() as counted:
            try:
                headers, key = await request.let_in(counted, receive)
            except ProblemError as error:
                await request.refuse(error.problem)
                return
            except PartsongError as error:
                await request.refuse(unusable(error))
                return
            except Exception:
                LOG.exception("request %s: an internal error", request_id(scope))
                await request.refuse(internal())
                return
            kept = counted.pop_all()
            work = asyncio.create_task(request.answer(headers, key, kept))
            try:
                await self.attend(request, work, receive)
            finally:
                if work.done():  # a task that is cancelled before its first step closes nothing
                    await kept.aclose()

    async def attend(self, request: "_Request", work: asyncio.Task[None], receive: Receive) -> None:
        """Await the answer, and cancel its run if the client leaves, unless the run goes on without its client."""
        service = request.service
        service.working.add(work)
        work.add_done_callback(service.working.discard)
        work.add_done_callback(let_go)
        left = asyncio.create_task(until_left(receive))
        try:
            await asyncio.wait((work, left), return_when=asyncio.FIRST_COMPLETED)
        finally:
            left.cancel()
            if not work.done() and request.staying:
                if request.stream is not None:
                    mute(request.stream)
            elif not work.done():
                work.cancel()
                await asyncio.wait((work,))
        if work.done() and not work.cancelled():
            work.result()


class _Request:
    """One request to an API. `body` is its body until it has been parsed, and then empty."""

    def __init__(self, api: Api, service: Service, scope: Scope, send: SendBytes, ask: Ask) -> None:
        self.api, self.service, self.scope, self.send, self.ask = api, service, scope, send, ask
        self.body = b""
        self.staying = False  # whether the run continues without its client
        self.stream: EventStream | None = None

    async def let_in(self, counted: AsyncExitStack, receive: Receive) -> tuple[dict[str, str], Key | None]:
        """Identify the caller, count the request, and read its body. Returns the headers and the key.

        counted: ends what the request counts: its place among the requests of its key, and the bytes of its body

        Raises `ProblemError` if the request is refused.
        """
        service = self.service
        if service.stopping:
            raise ProblemError(Problem(503, "overloaded", STOPPING, retry_after=5.0))
        headers = headers_of(self.scope)
        key = identify(self.scope, headers, service.keys, service.serving.origins)
        await counted.enter_async_context(service.limiter.admit(key))
        body = counted.enter_context(service.bodies.holding(key))
        self.body = await read_body(headers, receive, body, service.slowest)
        return headers, key

    async def answer(self, headers: dict[str, str], key: Key | None, counted: AsyncExitStack) -> None:
        """Send the answer, or the reason why there is none. `counted` ends what the request counts."""
        async with counted:
            with self.service.metrics.request():
                await self._answer(headers, key)

    async def _answer(self, headers: dict[str, str], key: Key | None) -> None:
        try:
            asked = await self.ask(self.api, self.service, self.body, headers, key, self.scope)
            self.body = b""  # the run keeps the parsed request alone
            recipe, models = await self.service.ready(asked.recipe, asked.models)
            asked = Asked(asked.parsed, recipe, asked.again)
            if asked.again is not None:
                models = {name: models.get(name) or Unasked() for name in asked.recipe.models}
            async with self.service.limiter.turn(key):
                with self.service.metrics.running():
                    await _Run(self, asked, key, models, headers).perform()
        except ProblemError as error:
            await self.refuse(error.problem)
        except PartsongError as error:
            await self.refuse(unusable(error))
        except Exception:  # `_Run` handles its own errors, so nothing was sent
            LOG.exception("request %s: an internal error", request_id(self.scope))
            await self.refuse(internal())

    async def refuse(self, problem: Problem) -> None:
        """Send a problem as the whole response. Nothing may have been sent before."""
        problem = presentable(replace(problem, request_id=request_id(self.scope)))
        if "run" not in problem.partsong:
            self.service.log.refused(self.api.name, problem)
            self.service.metrics.refused(self.api.name, problem)
        told = [(name.encode(), value.encode()) for name, value in problem_headers(problem).items()]
        headers = [*told, *identity_headers(self.scope)]
        await send_json(self.send, problem.status, self.api.format.serialize_error(problem), headers)


class _Run:
    """Performs the runs of one request, and sends the response.

    There is one run for each answer that the client asks for (`n` in Chat Completions). `recorders`, `reports` and
    `spans` have an element for each run.
    """

    def __init__(
        self,
        request: _Request,
        asked: Asked,
        key: Key | None,
        models: Mapping[str, Model],
        headers: Mapping[str, str],
    ) -> None:
        parsed, recipe = asked.parsed, asked.recipe
        self.request, self.parsed, self.recipe, self.key, self.models = request, parsed, recipe, key, models
        self.again = asked.again
        self.service = request.service
        labels = {"api": request.api.name, **parsed.labels}
        if request.api.name == "responses":
            labels |= labels_of(parsed)
        caller = caller_of(key)
        names = [request_id(request.scope), *(new_id() for _ in range(parsed.samples - 1))]
        self.recorders = [self.service.store.record(name, caller=caller, labels=labels) for name in names]
        self.reports = [Report(recorder.id, recipe.name) for recorder in self.recorders]
        self.began = time.monotonic()
        self.first: float | None = None
        telemetry = self.service.telemetry
        self.spans = [
            None if telemetry is None else telemetry.run(recorder.id, recipe.name, request.api.name, headers)
            for recorder in self.recorders
        ]
        self.head = Head(self.recorders[0].id, int(time.time()), parsed.model)
        self.task = asyncio.current_task()
        self.stream: EventStream | None = None
        if parsed.stream:
            self.writer = request.api.format.Stream(parsed, self.head)
            self.stream = EventStream(request.send, self.writer, self.headers(), self.service.slowest)
            request.stream = self.stream
        self.answered = False  # whether the client was told that the run goes on in the background
        if parsed.background or (parsed.stream and parsed.options.stay and self.service.stays):
            request.staying = True
            assert self.task is not None
            self.service.staying.add(self.head.run, caller_of(key), self.task)

    async def perform(self) -> None:
        try:
            async with AsyncExitStack() as stack:
                for recorder in self.recorders:
                    stack.push_async_callback(recorder.close)
                if self.parsed.options.events and self.stream is not None:
                    await self.stream.start()
                await self.perform_all()
                # A client that has read the end may look the run up at once, or continue from it.
                for recorder, report in zip(self.recorders, self.reports, strict=True):
                    await recorder.close()
                    report.kept = recorder.kept
                await self.finish()
        except SlowReaderError:
            return
        except PartsongError as error:  # raised before the first event
            await self.fail(unusable(error))
        except asyncio.CancelledError:
            if self.service.stopping:
                message = "the server was stopped before the run had ended"
                await self.fail(Problem(503, "overloaded", message, code="cancelled", retry_after=5.0))
            raise
        except Exception:
            LOG.exception("run %s: an internal error", self.head.run)
            await self.fail(internal())
        finally:
            if self.stream is not None:
                self.stream.stop()
            for report in self.reports:
                if report.started:
                    self.service.metrics.run(self.request.api.name, report, self.began, self.first)
                    caller = "" if self.key is None else self.key.name
                    self.service.log.run(self.request.api.name, caller, report, self.began)

    async def perform_all(self) -> None:
        if len(self.reports) == 1:
            await self.perform_one(0)
            return
        tasks = [asyncio.create_task(self.perform_one(choice)) for choice in range(len(self.reports))]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def perform_one(self, choice: int) -> None:
        options, funds = self.parsed.options, self.service.funds_for(self.key)
        conversation = _sample(self.parsed.conversation, choice)
        listener = self.listener(choice)
        await perform(
            self.recipe,
            conversation,
            self.models,
            listener,
            watch=options.events,
            live=self.stream is not None,
            cache=options.cache,
            funds=funds,
            documents=self.service.documents,
            record=self.recorders[choice].id,
            again=self.again,
            bounds=self.service.configuration.bounds,
            tools=self.service.assembly.tools(self.recipe.tools),
        )

    def listener(self, choice: int) -> Callable[[AnyEvent], Awaitable[None]]:
        recorder, report, stream = self.recorders[choice], self.reports[choice], self.stream
        spans = self.spans[choice]
        events = self.parsed.options.events and stream is not None

        async def hear(event: AnyEvent) -> None:
            await recorder.hear(event)
            kind = type(event)
            try:
                if kind is AggregationDelta:
                    if stream is not None:
                        if self.first is None:
                            self.first = time.monotonic()
                        await stream.put(self.writer.say(event.delta, choice))  # type: ignore[union-attr]
                    return
                if kind is not ProposalDelta:
                    report.hear(event)
                    if kind is RunStarted and self.parsed.background:
                        await recorder.close()  # once the client has the id, the store must have the run
                        await self.go_on()
                    if spans is not None:
                        spans.hear(event)
                if events and stream is not None:
                    await stream.put(self.writer.tell(to_json(event), choice))
            except SlowReaderError:
                self.cut_off()

        return hear

    async def go_on(self) -> None:
        """Send the client the response in progress, with its id, while the run goes on in the background."""
        if self.stream is not None:
            await self.stream.start()
            return
        self.answered = True
        body = responses.serialize_open(self.parsed, self.head)
        await send_json(self.request.send, 200, body, self.headers())

    def cut_off(self) -> None:
        """Cancel the run and drop the stream, because the client does not read, as if the client had disconnected."""
        if self.stream is not None:
            mute(self.stream)
        if not self.request.staying and self.task is not None:
            self.task.cancel()

    async def finish(self) -> None:
        """Send the answers of all runs, or the problem of the first run that failed."""
        for report in self.reports:
            if report.error is not None:
                strict = self.recipe.strict and report.losses > 0
                await self.fail(failed(report.error, self.plain(), strict))
                return
        if self.answered:
            return
        answers = tuple(report.answer for report in self.reports if report.answer is not None)
        usage, completed = self.usage(answers), int(time.time())
        if self.stream is not None:
            await self.stream.close(self.writer.finish(answers, usage, self.plain(), completed))
            return
        head = replace(self.head, completed=completed)
        whole = self.request.api.format.serialize_answer(self.parsed, head, answers, usage, self.plain())
        await send_json(self.request.send, 200, whole, self.headers())

    async def fail(self, problem: Problem) -> None:
        if self.answered:
            return
        if self.stream is not None and self.stream.started:
            problem = replace(problem, request_id=request_id(self.request.scope))
            with suppress(SlowReaderError):
                await self.stream.close(self.writer.fail(problem))
        else:
            await self.request.refuse(problem)

    def usage(self, answers: tuple[Answer, ...]) -> Usage:
        if self.parsed.options.usage == "answer":
            return sum((answer.usage for answer in answers), NOTHING_USED)
        return sum((report.usage for report in self.reports), NOTHING_USED)

    def plain(self) -> dict[str, Any]:
        first = self.reports[0].plain()
        if len(self.reports) == 1:
            return first
        used = sum((report.usage for report in self.reports), NOTHING_USED)
        total = None if used.dollars is None else str(used.dollars)
        return {"recipe": self.recipe.name, "dollars": total, "runs": [report.plain() for report in self.reports]}

    def headers(self) -> Headers:
        headers = [("x-partsong-run", self.head.run), ("x-partsong-recipe", self.recipe.name)]
        if all(report.answer is not None for report in self.reports):
            used = sum((report.usage for report in self.reports), NOTHING_USED)
            headers.append(("x-partsong-losses", str(sum(report.losses for report in self.reports))))
            if used.dollars is not None:
                headers.append(("x-partsong-dollars", str(used.dollars)))
        told = [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers]
        return [*told, *identity_headers(self.request.scope)]


def options_of(header: str, bounds: Bounds) -> Options:
    """The options in the header `X-Partsong`. Raises `RequestError` if they are wrong."""
    data, field = header.encode("latin-1"), "X-Partsong"
    try:
        check_extent(data, bounds.body_values, bounds.body_nesting)
        value = msgspec.json.decode(data)
    except ExtentError as error:
        many = f"has more than {bounds.body_values:,} names and values"
        deep = f"is not valid JSON, or is nested deeper than {bounds.body_nesting} levels"
        raise RequestError(f"the header {field} {many if error.what == 'values' else deep}", field) from None
    except UNREADABLE as problem:
        raise RequestError(f"the header {field} is not valid JSON in UTF-8: {problem}", field) from None
    return parse_options(value, field)


def _sample(conversation: Conversation, choice: int) -> Conversation:
    """The conversation for the answer with the index `choice`. If the client sets a seed, the index is added to it."""
    sampling = conversation.sampling
    if choice == 0 or sampling.seed is None:
        return conversation
    return replace(conversation, sampling=replace(sampling, seed=sampling.seed + choice))
