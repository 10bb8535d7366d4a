"""Recipes as tools of the Model Context Protocol: `ask` and `recipes`.

`ask` reports progress whenever a seat has answered. All tool calls share one assembly. A client that cancels its tool
call cancels the run, and with it every call to a model.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Annotated, Any

import msgspec
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult, TextContent, ToolAnnotations
from pydantic import BaseModel, Field

from partsong.assembly import Assembly, assembling, daily_funds, open_journal
from partsong.configuration import Configuration, StoreMode
from partsong.engine import perform
from partsong.errors import PartsongError
from partsong.events import (
    AggregationDelta,
    AggregationStarted,
    AnalysisFailed,
    AnalysisFinished,
    AnyEvent,
    ProposalFailed,
    ProposalFinished,
    ProposalSpared,
)
from partsong.ids import shown
from partsong.model import asking
from partsong.recipe import Recipe, replace
from partsong.server.offered import found, offered
from partsong.server.report import Report
from partsong.store import Store

MOST_LISTED = 50  # most recipes in the tool's description, which is part of every prompt of the client
INSTRUCTIONS = (
    "Each recipe asks several language models a question, and another model writes one answer from theirs. Use it "
    "where second opinions are worth some seconds and some cents. The models see the question only, so include all "
    "that they need to know."
)


class Answered(BaseModel):
    """What `ask` returns beside the text: the answer, and the report on its run."""

    answer: str
    run: str = Field(description="The id of the run.")
    recipe: str
    model: str = Field(description="The model that wrote the answer.")
    dollars: str | None = Field(description="What the run has cost, as a decimal number; null if a price is unknown.")
    planned: int = Field(description="How many proposals were planned.")
    answered: int = Field(description="How many proposals there are.")
    losses: list[dict[str, Any]] = Field(description="What the run did not get as its recipe has it, and why.")
    last_resort: bool = Field(description="Whether a proposal stands for the answer, as the aggregator failed.")
    seat: int | None = Field(description="The seat whose proposal is the answer, if it is one.")
    layer: int | None = Field(description="The layer of that seat.")
    spared: int = Field(description="How many proposals were not needed, because the others agreed.")
    votes: list[dict[str, Any]] = Field(description="Who voted for what, for each layer whose answers were counted.")
    calls: list[dict[str, Any]] = Field(description="Each call to a model, with its tokens and dollars.")
    tools: list[dict[str, Any]] = Field(default=[], description="Each tool call of a model that looked something up.")
    sources: list[dict[str, Any]] = Field(default=[], description="What the models have read, which [n] in it cites.")


class ListedRecipe(BaseModel):
    """A recipe as `recipes` lists it."""

    name: str
    about: str
    calls: int = Field(description="How many calls to models a run of it makes.")
    proposers: list[list[str]] = Field(description="The models of each layer.")
    aggregator: str = Field(description="The model that writes the answer; empty for a vote that asks none.")


class Listing(BaseModel):
    """What `recipes` returns."""

    recipes: list[ListedRecipe]
    unusable: dict[str, str] = Field(description="Why the others cannot be used, by name.")


@dataclass(frozen=True, slots=True)
class _Shared:
    """The state that all tool calls share."""

    configuration: Configuration
    store: Store
    assembly: Assembly
    recipes: dict[str, Recipe]
    unusable: dict[str, str]


def make_server(configuration: Configuration, mode: StoreMode | None = None) -> "MCPServer[_Shared]":
    """The MCP server with the tools `ask` and `recipes`. It opens the store and the models when its client connects.

    mode: what the store keeps; by default `configuration.mode`
    """

    @asynccontextmanager
    async def lifespan(_: "MCPServer[_Shared]") -> AsyncIterator[_Shared]:
        journal = open_journal(configuration, mode, patience=configuration.bounds.store_seconds, must_open=False)
        async with journal as store, assembling(configuration, store=store) as assembly:
            yield _Shared(configuration, store, assembly, *offered(configuration, assembly))

    # The description of `ask` names all recipes, also unusable ones: only an open assembly can tell which are usable.
    about: dict[str, str] = {}
    for each in found(configuration)[0]:
        about.setdefault(each.recipe.name, each.recipe.about)
    names = list(about)
    listed = "; ".join(f"{name} ({about[name]})" if about[name] else name for name in names[:MOST_LISTED])
    server = MCPServer("partsong", instructions=INSTRUCTIONS, version=version("partsong"), lifespan=lifespan)
    opens = ToolAnnotations(read_only_hint=True, open_world_hint=True)

    @server.tool(annotations=opens)
    async def ask(
        question: Annotated[
            str, Field(description="The question with all that the models need to know. They see nothing else.")
        ],
        context: Context[_Shared],
        recipe: Annotated[
            str | None,
            Field(
                description=f"The name of a recipe, of: {listed}. Default: the first.",
                examples=names[:MOST_LISTED],
            ),
        ] = None,
    ) -> Annotated[CallToolResult, Answered]:
        """Ask several language models a question, and get one answer written from theirs."""
        return await _ask(context.request_context.lifespan_context, question, recipe, context)

    @server.tool(annotations=ToolAnnotations(read_only_hint=True, open_world_hint=False))
    async def recipes(context: Context[_Shared]) -> Listing:
        """List the recipes for `ask` with their models, layers and calls, and the reasons why others are unusable."""
        shared = context.request_context.lifespan_context
        known = [
            ListedRecipe(
                name=recipe.name,
                about=recipe.about,
                calls=recipe.calls,
                proposers=[[agent.model for agent in layer.seats] for layer in recipe.layers],
                aggregator=recipe.aggregator.model,
            )
            for recipe in shared.recipes.values()
        ]
        return Listing(recipes=known, unusable=shared.unusable)

    return server


def _recipe(shared: _Shared, name: str | None) -> Recipe:
    """The recipe of this name, or the first one, with the configured cap in dollars. Raises `ToolError` for others."""
    known = ", ".join(shared.recipes) or "none"
    if name in shared.unusable:
        raise ToolError(f'the recipe "{name}" cannot be used: {shared.unusable[name]}')
    if not shared.recipes or (name is not None and name not in shared.recipes):
        raise ToolError(f'there is no recipe "{shown(name or "default")}"; known: {known}')
    recipe = next(iter(shared.recipes.values())) if name is None else shared.recipes[name]
    if recipe.max_dollars is None and shared.configuration.dollars_per_run is not None:
        recipe = replace(recipe, max_dollars=shared.configuration.dollars_per_run)
    return recipe


async def _ask(shared: _Shared, question: str, name: str | None, context: Context[_Shared]) -> CallToolResult:
    recipe = _recipe(shared, name)
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
            case ProposalSpared(layer=layer, seat=seat):
                steps, said = steps + 1, f"layer {layer + 1}, seat {seat + 1}: was not needed"
            case AnalysisFinished(model=model):
                steps, said = steps + 1, f"{model} has compared the proposals"
            case AnalysisFailed(error=error):
                steps, said = steps + 1, f"the proposals were not compared: {error.message}"
            case AggregationStarted(model=model):
                said = f"{model} writes the answer"
        if said:
            # Progress must grow with each notification (Model Context Protocol, "Progress").
            done = steps + 0.5 if isinstance(event, AggregationStarted) else steps
            await context.report_progress(done, recipe.calls, said)

    try:
        models = await shared.assembly.models(recipe.models)
        funds = daily_funds(shared.configuration, shared.store)
        bounds = shared.configuration.bounds
        await perform(
            *(recipe, asking(question), models, hear),
            live=False,
            funds=funds,
            record=recorder.id,
            bounds=bounds,
            tools=shared.assembly.tools(recipe.tools),
        )
    except PartsongError as problem:
        raise ToolError(str(problem)) from None
    finally:
        await recorder.close()
        report.kept = recorder.kept
    return _result(report)


def _result(report: Report) -> CallToolResult:
    """The result of `ask`. Raises `ToolError` for a run without an answer."""
    if report.answer is None:
        raise ToolError("no answer" if report.error is None else report.error.message)
    # A model reads the text only. Programs find the report in the structured content.
    return CallToolResult(
        content=[TextContent(type="text", text=report.answer.text)],
        structured_content=msgspec.to_builtins({"answer": report.answer.text, **report.plain()}),
    )
