"""`partsong ask`: a question in, an answer out; drawn on a terminal, plain in a pipe, or as events for programs."""

import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from msgspec.structs import replace as with_fields

from partsong.assembly import assemble, find_configuration
from partsong.cli.downloads import Downloads
from partsong.cli.loop import complete
from partsong.cli.output import Output
from partsong.cli.printable import single_line
from partsong.cli.question import read_image, read_question
from partsong.configuration import Configuration
from partsong.engine import Emit, perform
from partsong.errors import InputError
from partsong.events import AnyEvent, Failure, RunFailed
from partsong.model import Conversation, asking
from partsong.recipe import Recipe, find_recipe, replace, single

DEFAULT_RECIPE = "local"


def ask(
    *question: Annotated[str, Parameter(help="What to ask; - stands for standard input.")],
    recipe: Annotated[
        str | None, Parameter(name=("--recipe", "-r"), metavar="NAME|FILE", help="A shipped recipe, or a TOML file.")
    ] = None,
    model: Annotated[
        str | None, Parameter(name=("--model", "-m"), metavar="ID", help="One model alone, such as openai:gpt-6.1-sol.")
    ] = None,
    system: Annotated[str, Parameter(name=("--system", "-s"), metavar="TEXT", help="A system prompt.")] = "",
    image: Annotated[
        tuple[str, ...],
        Parameter(
            name=("--image", "-i"), metavar="FILE", consume_multiple=False, help="A picture to show; may be repeated."
        ),
    ] = (),
    deadline: Annotated[float | None, Parameter(metavar="S", help="Seconds that the whole run may take.")] = None,
    seed: Annotated[int | None, Parameter(metavar="N", help="Sample every seat anew from this seed.")] = None,
    proposals: Annotated[bool, Parameter(help="Print the proposals before the answer.")] = False,
    json: Annotated[bool, Parameter(help="Print every event as a line of JSON.")] = False,
    quiet: Annotated[bool, Parameter(name=("--quiet", "-q"), help="Print the answer alone.")] = False,
    config: Annotated[Path | None, Parameter(metavar="FILE", help="This configuration, and no other.")] = None,
) -> int:
    """Ask a mixture of models, or one model, a question."""
    configuration = find_configuration(config)
    chosen = choose(recipe, model, configuration)
    if deadline is not None:
        chosen = replace(chosen, deadline=deadline)
    if seed is not None:
        chosen = reseeded(chosen, seed)
    text = read_question(question, sys.stdin.buffer if sys.stdin else None)
    conversation = asking(text, system=system, images=tuple(read_image(place) for place in image))
    return complete(answer(chosen, conversation, configuration, proposals=proposals, json=json, quiet=quiet))


def choose(recipe: str | None, model: str | None, configuration: Configuration) -> Recipe:
    """The recipe that was asked for, else the configured one, else the one that needs nothing."""
    if recipe is not None and model is not None:
        raise InputError("--recipe and --model exclude each other: a model alone is a recipe of its own")
    return single(model) if model is not None else find_recipe(recipe or configuration.recipe or DEFAULT_RECIPE)


def reseeded(recipe: Recipe, seed: int) -> Recipe:
    """The recipe with every seat's seed drawn from this one, also where the recipe gives a seat its own."""
    layers = tuple(
        with_fields(layer, agents=tuple(with_fields(agent, seed=None) for agent in layer.agents))
        for layer in recipe.layers
    )
    return replace(recipe, layers=layers, aggregator=with_fields(recipe.aggregator, seed=None), seed=seed)


async def answer(
    recipe: Recipe,
    conversation: Conversation,
    configuration: Configuration,
    *,
    proposals: bool,
    json: bool,
    quiet: bool,
) -> int:
    """Perform the recipe and show it; return the exit code."""
    failures: list[Failure] = []
    drawn = not json and sys.stdout.isatty()
    async with AsyncExitStack() as stack:
        with Downloads(sys.stderr) as downloads:
            models = await stack.enter_async_context(assemble(recipe.models, configuration, fetching=downloads.hear))
        listener = await listen(stack, drawn=drawn, proposals=proposals, json=json, quiet=quiet)

        async def hear(event: AnyEvent) -> None:
            await listener(event)
            if isinstance(event, RunFailed):
                failures.append(event.error)

        await perform(recipe, conversation, models, hear, watch=json or (drawn and not quiet))
    for failure in failures:
        print(f"partsong: no answer: {single_line(failure.message, sys.stderr.encoding)}", file=sys.stderr)
    return 1 if failures else 0


async def listen(stack: AsyncExitStack, *, drawn: bool, proposals: bool, json: bool, quiet: bool) -> Emit:
    """Whoever shows the run: until the stack is left."""
    if json:
        from partsong.cli.jsonl import JsonLines

        return JsonLines(Output(sys.stdout.buffer), ascii_only=sys.stdout.isatty()).hear
    if not drawn:
        from partsong.cli.plain import Plain

        return Plain(Output(sys.stdout), None if quiet else Output(sys.stderr), proposals=proposals).hear
    from rich.console import Console

    from partsong.cli.region import Region
    from partsong.cli.terminal import Terminal

    region = Region(Console(highlight=False, markup=False, emoji=False))
    terminal = Terminal(region, proposals=proposals, quiet=quiet)
    await stack.enter_async_context(region.drawing(terminal.frame))
    return terminal.hear
