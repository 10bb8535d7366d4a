"""Recipes as tools of the Model Context Protocol: `ask`, whose progress is told as its seats answer, and `recipes`.

One assembly serves all calls. A client that takes its call back cancels the run, and with it every call to a model.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import msgspec
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult, TextContent, ToolAnnotations

from partsong.assembly import Assembly, assembling, daily_funds, open_journal
from partsong.configuration import Configuration, StoreMode
from partsong.engine import perform
from partsong.errors import PartsongError
from partsong.events import AggregationDelta, AggregationStarted, AnyEvent, ProposalFailed, ProposalFinished
from partsong.model import asking
from partsong.recipe import Recipe, replace
from partsong.server.offered import offered
from partsong.server.report import Report
from partsong.store import Store

INSTRUCTIONS = (
    "Each recipe asks several language models and lets another make one answer of theirs. Ask where a second opinion "
    "is worth some seconds and some cents: it sees nothing but the question, so write all that matters into it."
)


@dataclass(frozen=True, slots=True)
class _Kitchen:
    configuration: Configuration
    store: Store
    assembly: Assembly
    recipes: dict[str, Recipe]
    unusable: dict[str, str]


def make_server(configuration: Configuration, mode: StoreMode | None = None) -> "MCPServer[_Kitchen]":
    """The server; what it needs is opened when its client connects."""

    @asynccontextmanager
    async def lifespan(_: "MCPServer[_Kitchen]") -> AsyncIterator[_Kitchen]:
        async with open_journal(configuration, mode) as store, assembling(configuration, store=store) as assembly:
            yield _Kitchen(configuration, store, assembly, *offered(configuration, assembly))

    server = MCPServer("partsong", instructions=INSTRUCTIONS, version=version("partsong"), lifespan=lifespan)
    opens = ToolAnnotations(read_only_hint=True, open_world_hint=True)

    @server.tool(annotations=opens)
    async def ask(question: str, context: Context[_Kitchen], recipe: str | None = None) -> CallToolResult:
        """Ask several language models a question, and get one answer made of theirs.

        Args:
            question: All that they need to know: they see nothing else.
            recipe: Which models, and how; `recipes` lists them. The default one, if not said.
        """
        return await _ask(context.request_context.lifespan_context, question, recipe, context)

    @server.tool(annotations=ToolAnnotations(read_only_hint=True, open_world_hint=False))
    async def recipes(context: Context[_Kitchen]) -> dict[str, Any]:
        """List the recipes that `ask` takes: their models, layers and calls; and why others cannot be used."""
        kitchen = context.request_context.lifespan_context
        listed = [
            {
                "name": recipe.name,
                "about": recipe.about,
                "calls": recipe.calls,
                "proposers": [[agent.model for agent in layer.seats] for layer in recipe.layers],
                "aggregator": recipe.aggregator.model,
            }
            for recipe in kitchen.recipes.values()
        ]
        return {"recipes": listed, "unusable": kitchen.unusable}

    return server


async def _ask(kitchen: _Kitchen, question: str, name: str | None, context: Context[_Kitchen]) -> CallToolResult:
    known = ", ".join(kitchen.recipes) or "none"
    if name in kitchen.unusable:
        raise ToolError(f'the recipe "{name}" cannot be used: {kitchen.unusable[name]}')
    if not kitchen.recipes or (name is not None and name not in kitchen.recipes):
        raise ToolError(f'there is no recipe "{name or "default"}"; known: {known}')
    recipe = next(iter(kitchen.recipes.values())) if name is None else kitchen.recipes[name]
    if recipe.max_dollars is None and kitchen.configuration.dollars_per_run is not None:
        recipe = replace(recipe, max_dollars=kitchen.configuration.dollars_per_run)
    recorder = kitchen.store.record(labels={"api": "mcp"})
    report, steps = Report(recorder.id, recipe.name), 0

    async def hear(event: AnyEvent) -> None:
        nonlocal steps
        await recorder.hear(event)
        if isinstance(event, AggregationDelta):
            return
        report.hear(event)
        said = ""
        match event:
            case ProposalFinished(layer=layer, seat=seat, model=model):
                steps, said = steps + 1, f"layer {layer + 1}, seat {seat + 1}: {model} has answered"
            case ProposalFailed(layer=layer, seat=seat, error=error):
                steps, said = steps + 1, f"layer {layer + 1}, seat {seat + 1}: {error.message}"
            case AggregationStarted(model=model):
                said = f"{model} writes the answer"
        if said:
            # Progress must grow with each notification (Model Context Protocol, "Progress").
            done = steps + 0.5 if isinstance(event, AggregationStarted) else steps
            await context.report_progress(done, recipe.calls, said)

    try:
        models = await kitchen.assembly.models(recipe.models)
        await perform(
            recipe, asking(question), models, hear, live=False, funds=daily_funds(kitchen.configuration, kitchen.store)
        )
    except PartsongError as problem:
        raise ToolError(str(problem)) from None
    finally:
        await recorder.close()
    if report.answer is None:
        raise ToolError("no answer" if report.error is None else report.error.message)
    # The text alone is what a model reads; programs find the rest beside it.
    return CallToolResult(
        content=[TextContent(type="text", text=report.answer.text)],
        structured_content=msgspec.to_builtins({"answer": report.answer.text, **report.plain()}),
    )
