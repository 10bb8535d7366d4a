"""OpenTelemetry spans of a run, of its layers and of its calls, by the semantic conventions for generative AI.

Spans are made if the extra `telemetry` is installed and OpenTelemetry's own variables name an endpoint
(`OTEL_EXPORTER_OTLP_ENDPOINT`). They hold no text of a prompt or an answer. A run joins the trace of its client if the
request has a `traceparent`.
"""

import asyncio
import logging
import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from partsong.errors import Cause
from partsong.events import (
    AggregationReplaced,
    AnalysisFailed,
    AnalysisFinished,
    AnalysisReplaced,
    AnyEvent,
    CallFinished,
    Failure,
    LayerFinished,
    LayerStarted,
    Loss,
    RunFailed,
    RunFinished,
    RunStarted,
)
from partsong.model import Usage

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer

LOG = logging.getLogger("partsong.server")
ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
FLUSH = 5_000  # milliseconds to send the last spans when the server stops
NANOSECONDS = 1_000_000_000  # in a second


class Telemetry:
    """The OpenTelemetry tracer of the server. Without a configured endpoint, OpenTelemetry is not even imported."""

    def __init__(self, tracer: "Tracer", provider: "TracerProvider") -> None:
        self.tracer, self._provider = tracer, provider

    def run(self, run: str, recipe: str, api: str, headers: Mapping[str, str]) -> "Spans":
        """Start the span of a run, and return the listener that makes the spans of its layers and calls.

        run: id of the run
        recipe: name of the recipe
        api: name of the API of the request
        headers: headers of the request, by lower-case name; `traceparent` makes the span part of the client's trace
        """
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        caller = TraceContextTextMapPropagator().extract(headers)
        attributes = {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.name": recipe,
            "partsong.run": run,
            "partsong.api": api,
        }
        return Spans(
            self.tracer, self.tracer.start_span(f"invoke_agent {recipe}", context=caller, attributes=attributes)
        )

    async def close(self) -> None:
        """Send the remaining spans, within `FLUSH` milliseconds."""

        def end() -> None:
            self._provider.force_flush(FLUSH)
            self._provider.shutdown()

        await asyncio.to_thread(end)


def open_telemetry() -> Telemetry | None:
    """The telemetry that the environment configures, or `None`."""
    if not any(os.environ.get(name) for name in ENDPOINTS) or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        LOG.warning("an endpoint for spans is configured, but spans need: pip install 'partsong[telemetry]'")
        return None
    named = os.environ.get("OTEL_SERVICE_NAME") or "partsong"
    provider = TracerProvider(resource=Resource.create({SERVICE_NAME: named}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Telemetry(provider.get_tracer("partsong"), provider)


class Spans:
    """A listener for the events of one run. It makes a span for the run, for each layer and for each call."""

    def __init__(self, tracer: "Tracer", run: "Span") -> None:
        self._tracer, self._run = tracer, run
        self._layers: dict[int, Span] = {}
        self._answered: tuple[Span, int] | None = None  # the aggregator's last answered call, and its end
        self._began = time.time_ns()  # when the run began: nanoseconds of Unix time
        self._clock = time.monotonic_ns()  # the same moment by the monotonic clock

    def hear(self, event: AnyEvent) -> None:
        """Add one event of the run. Deltas may be left out."""
        match event:
            case RunStarted():
                self._began, self._clock = time.time_ns(), time.monotonic_ns()
            case LayerStarted(layer=layer):
                attributes = {"partsong.layer": layer}
                parent = _within(self._run)
                self._layers[layer] = self._tracer.start_span(
                    f"layer {layer}", parent, attributes=attributes, start_time=self._now()
                )
            case CallFinished():
                self._add_call(event)
            case AggregationReplaced(error=error) | AnalysisReplaced(error=error) | AnalysisFailed(error=error):
                self._end_answered(error)
            case AnalysisFinished():
                self._end_answered(None)
            case LayerFinished(layer=layer, answered=answered):
                if (span := self._layers.pop(layer, None)) is not None:
                    span.set_attribute("partsong.answered", answered)
                    span.end(self._now())
            case RunFinished(usage=usage, losses=losses, last_resort=last_resort):
                self._end_answered(losses[-1] if last_resort else None)
                self._finish(usage, len(losses))
            case RunFailed(error=error, usage=usage, losses=losses):
                self._end_answered(error)
                self._finish(usage, len(losses), error)
            case _:
                return

    def _add_call(self, call: CallFinished) -> None:
        """Add the span of a call: below the span of its layer; for analyst and aggregator below the span of the run."""
        from opentelemetry.trace import SpanKind

        self._end_answered(None)
        provider, _, name = call.model.partition(":")
        attributes: dict[str, Any] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": provider,
            "gen_ai.request.model": name,
            "partsong.seat": call.seat,
        }
        if call.stored:
            attributes["partsong.stored"] = True
        # RunStarted is heard a moment after the run has begun, so the computed end may be a moment in the future.
        end = min(self._at(call.started + call.seconds), self._now())
        start = min(self._at(call.started), end)
        parent = _within(self._layers.get(call.layer, self._run))
        span = self._tracer.start_span(f"chat {name}", parent, SpanKind.CLIENT, attributes, start_time=start)
        _describe(span, call.usage)
        if call.error is not None:
            _fail(span, call.error.cause)
        elif call.layer not in self._layers:
            self._answered = span, end
            return
        span.end(end)

    def _end_answered(self, failure: Failure | Loss | None) -> None:
        """End the span of the aggregator's last answered call, with an error if the answer was invalid.

        Whether an answer is valid is known only after its call has ended, for example if it names no proposal. So the
        span of this call waits for the next event of the aggregator.
        """
        if self._answered is not None:
            span, end = self._answered
            self._answered = None
            if failure is not None and failure.cause == "invalid":
                _fail(span, failure.cause)
            span.end(end)

    def _finish(self, usage: Usage, losses: int, error: Failure | None = None) -> None:
        """End the span of the run, and the span of a layer that was under way when the run failed."""
        end = self._now()
        for span in self._layers.values():
            span.end(end)
        self._layers.clear()
        self._run.set_attribute("partsong.losses", losses)
        _describe(self._run, usage)
        if error is not None:
            _fail(self._run, error.cause)
        self._run.end(end)

    def _at(self, seconds: float) -> int:
        """Unix time in nanoseconds, of a moment in seconds since the run's start."""
        return self._began + round(seconds * NANOSECONDS)

    def _now(self) -> int:
        """The Unix time now, in nanoseconds.

        It is the start of the run plus monotonic time, so that spans stay in order if the system clock is set.
        """
        return self._began + time.monotonic_ns() - self._clock


def _within(span: "Span") -> "Context":
    """The context of a span whose parent is `span`."""
    from opentelemetry.trace import set_span_in_context

    return set_span_in_context(span)


def _describe(span: "Span", usage: Usage | None) -> None:
    if usage is not None:
        span.set_attribute("gen_ai.usage.input_tokens", usage.input_tokens)
        span.set_attribute("gen_ai.usage.output_tokens", usage.output_tokens)
        if usage.dollars is not None:
            span.set_attribute("partsong.dollars", float(usage.dollars))


def _fail(span: "Span", cause: Cause) -> None:
    """Mark the span as failed. The message of the error is left out, because it may quote the prompt."""
    from opentelemetry.trace import StatusCode

    span.set_attribute("error.type", cause)
    span.set_status(StatusCode.ERROR, cause)
