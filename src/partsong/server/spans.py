"""A run as spans of OpenTelemetry: the run, its layers, its calls, named and described by the GenAI conventions.

Spans are made where the extra `telemetry` is installed and an endpoint is configured in OpenTelemetry's own variables
(`OTEL_EXPORTER_OTLP_ENDPOINT`). They hold no word of a prompt or an answer. A run belongs to its caller's trace where
the request has a `traceparent`.
"""

import asyncio
import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from partsong.events import (
    AggregationDelta,
    AggregationReplaced,
    AggregationStarted,
    AnyEvent,
    Failure,
    LayerFinished,
    LayerStarted,
    ProposalDelta,
    ProposalFailed,
    ProposalFinished,
    ProposalReplaced,
    ProposalStarted,
    RunFailed,
    RunFinished,
)
from partsong.model import Usage

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer

LOG = logging.getLogger("partsong.server")
ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
FLUSH = 5_000  # milliseconds that the last spans may take when the server ends


class Telemetry:
    """Where spans go. Without an endpoint there is none of it, and nothing is imported."""

    def __init__(self, tracer: "Tracer", provider: "TracerProvider") -> None:
        self.tracer, self._provider = tracer, provider

    def run(self, run: str, recipe: str, api: str, headers: Mapping[str, str]) -> "Spans":
        """The spans of a run that begins now."""
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
        """Send what is left, if that does not take long."""

        def end() -> None:
            self._provider.force_flush(FLUSH)
            self._provider.shutdown()

        await asyncio.to_thread(end)


def open_telemetry() -> Telemetry | None:
    """Telemetry as the environment configures it; `None` where it does not."""
    if not any(os.environ.get(name) for name in ENDPOINTS) or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        LOG.warning("an endpoint for spans is configured, but they need: pip install 'partsong[telemetry]'")
        return None
    named = os.environ.get("OTEL_SERVICE_NAME") or "partsong"
    provider = TracerProvider(resource=Resource.create({SERVICE_NAME: named}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Telemetry(provider.get_tracer("partsong"), provider)


class Spans:
    """Hears a run's events, and makes spans of them."""

    def __init__(self, tracer: "Tracer", run: "Span") -> None:
        self._tracer, self._run = tracer, run
        self._layers: dict[int, Span] = {}
        self._calls: dict[tuple[int, int], Span] = {}
        self._aggregator = (-1, 0)

    def hear(self, event: AnyEvent) -> None:
        """Take in one event."""
        match event:
            case ProposalDelta() | AggregationDelta():
                return
            case LayerStarted(layer=layer):
                self._layers[layer] = self._start(f"layer {layer}", self._run, {"partsong.layer": layer})
            case ProposalStarted(layer=layer, seat=seat, model=model):
                self._call((layer, seat), model)
            case ProposalReplaced(layer=layer, seat=seat, model=model, error=error, usage=usage):
                self._end((layer, seat), usage, error)
                self._call((layer, seat), model)
            case ProposalFinished(layer=layer, seat=seat, answer=answer):
                self._end((layer, seat), answer.usage)
            case ProposalFailed(layer=layer, seat=seat, error=error, usage=usage):
                self._end((layer, seat), usage, error)
            case LayerFinished(layer=layer, answered=answered):
                if (span := self._layers.pop(layer, None)) is not None:
                    span.set_attribute("partsong.answered", answered)
                    span.end()
            case AggregationStarted(model=model):
                self._call(self._aggregator, model)
            case AggregationReplaced(model=model, error=error, usage=usage):
                self._end(self._aggregator, usage, error)
                self._call(self._aggregator, model)
            case RunFinished(answer=answer, usage=usage, losses=losses):
                self._end(self._aggregator, answer.usage)
                self._finish(usage, len(losses))
            case RunFailed(error=error, usage=usage, losses=losses):
                self._end(self._aggregator, None, error)
                self._finish(usage, len(losses), error)
            case _:
                return

    def _finish(self, usage: Usage, losses: int, error: Failure | None = None) -> None:
        for address in list(self._calls):
            self._end(address, None, Failure("cut_off", "the run had ended"))
        for span in self._layers.values():
            span.end()
        self._layers.clear()
        self._run.set_attribute("partsong.engine.losses", losses)
        _describe(self._run, usage, error)
        self._run.end()

    def _start(self, name: str, parent: "Span", attributes: Mapping[str, Any], *, client: bool = False) -> "Span":
        from opentelemetry.trace import SpanKind, set_span_in_context

        kind = SpanKind.CLIENT if client else SpanKind.INTERNAL
        return self._tracer.start_span(name, set_span_in_context(parent), kind, attributes)

    def _call(self, address: tuple[int, int], model: str) -> None:
        provider, _, name = model.partition(":")
        attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": provider,
            "gen_ai.request.model": name,
            "partsong.seat": address[1],
        }
        parent = self._layers.get(address[0], self._run)
        self._calls[address] = self._start(f"chat {name}", parent, attributes, client=True)

    def _end(self, address: tuple[int, int], usage: Usage | None, error: Failure | None = None) -> None:
        if (span := self._calls.pop(address, None)) is not None:
            _describe(span, usage, error)
            span.end()


def _describe(span: "Span", usage: Usage | None, error: Failure | None) -> None:
    from opentelemetry.trace import StatusCode

    if usage is not None:
        span.set_attribute("gen_ai.usage.input_tokens", usage.input_tokens)
        span.set_attribute("gen_ai.usage.output_tokens", usage.output_tokens)
        if usage.dollars is not None:
            span.set_attribute("partsong.dollars", float(usage.dollars))
    if error is not None:
        # The cause alone: a message may repeat what a provider said of the prompt.
        span.set_attribute("error.type", error.cause)
        span.set_status(StatusCode.ERROR, error.cause)
