"""Recipes as tools of the Model Context Protocol: `ask` and `recipes`.

`ask` reports progress whenever a seat has answered. All tool calls share one assembly. A client that cancels its tool
call cancels the run, and with it every call to a model.
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
from partsong.server.settings import STORE_PATIENCE
from partsong.store import Store

INSTRUCTIONS = (
    "Each recipe asks several language models a question, and another model writes one answer from theirs. Use it "
    "where second opinions are worth some seconds and some cents. The models see the question only, so include all "
    "that they need to know."
)


@dataclass(frozen=True, slots=True)
class _Shared:
    """The state that all tool calls share."""

    configuration: Configuration
    store: Store
    assembly: Assembly
    recipes: dict[str, Recipe]
    unusable: dict[str, str]


def make_server(configuration: Configuration, mode: StoreMode | None = None) -> "MCPServer[_Shared]":
    """The MCP server. It opens the store and the models when its client connects."""

    @asynccontextmanager
    async def lifespan(_: "MCPServer[_Shared]") -> AsyncIterator[_Shared]:
        journal = open_journal(configuration, mode, patience=STORE_PATIENCE, must_open=False)
        async with journal as store, assembling(configuration, store=store) as assembly:
            yield _Shared(configuration, store, assembly, *offered(configuration, assembly))

    server = MCPServer("partsong", instructions=INSTRUCTIONS, version=version("partsong"), lifespan=lifespan)
    opens = ToolAnnotations(read_only_hint=True, open_world_hint=True)

    @server.tool(annotations=opens)
    async def ask(question: str, context: Context[_Shared], recipe: str | None = None) -> CallToolResult:
        """Ask several language models a question, and get one answer written from theirs.

        Args:
            question: The question with all that the models need to know. They see nothing else.
            recipe: The name of a recipe from the tool `recipes`. Default: the first recipe.
        """
        return await _ask(context.request_context.lifespan_context, question, recipe, context)

    @server.tool(annotations=ToolAnnotations(read_only_hint=True, open_world_hint=False))
    async def recipes(context: Context[_Shared]) -> dict[str, Any]:
        """List the recipes for `ask` with their models, layers and calls, and the reasons why others are unusable."""
        shared = context.request_context.lifespan_context
        listed = [
            {
                "name": recipe.name,
                "about": recipe.about,
                "calls": recipe.calls,
                "proposers": [[agent.model for agent in layer.seats] for layer in recipe.layers],
                "aggregator": recipe.aggregator.model,
            }
            for recipe in shared.recipes.values()
        ]
        return {"recipes": listed, "unusable": shared.unusable}

    return server


async def _ask(shared: _Shared, question: str, name: str | None, context: Context[_Shared]) -> CallToolResult:
    known = ", ".join(shared.recipes) or "none"
    if name in shared.unusable:
        raise ToolError(f'the recipe "{name}" cannot be used: {shared.unusable[name]}')
    if not shared.recipes or (name is not None and name not in shared.recipes):
        raise ToolError(f'there is no recipe "{name or "default"}"; known: {known}')
    recipe = next(iter(shared.recipes.values())) if name is None else shared.recipes[name]
    if recipe.max_dollars is None and shared.configuration.dollars_per_run is not None:
        recipe = replace(recipe, max_dollars=shared.configuration.dollars_per_run)
    recorder = shared.store.record(labels={"api": "mcp"})
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
        models = await shared.assembly.models(recipe.models)
        await perform(
            recipe,
            asking(question),
            models,
            hear,
            live=False,
            funds=daily_funds(shared.configuration, shared.store),
            record=recorder.id,
        )
    except PartsongError as problem:
        raise ToolError(str(problem)) from None
    finally:
        await recorder.close()
        report.kept = recorder.kept
    if report.answer is None:
        raise ToolError("no answer" if report.error is None else report.error.message)
    # A model reads the text only. Programs find the report in the structured content.
    return CallToolResult(
        content=[TextContent(type="text", text=report.answer.text)],
        structured_content=msgspec.to_builtins({"answer": report.answer.text, **report.plain()}),
    )
