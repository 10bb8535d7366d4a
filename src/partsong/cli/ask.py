"""`partsong ask`: asks a question. The run is drawn on a terminal, plain in a pipe, or printed as events in JSON."""

import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, TypeVar

from cyclopts import Parameter
from msgspec.structs import replace as with_fields

from partsong.assembly import assembling, daily_funds, open_journal
from partsong.cli import candidates
from partsong.cli.downloads import Downloads
from partsong.cli.earlier import earlier
from partsong.cli.listening import beside, listen
from partsong.cli.loop import complete
from partsong.cli.options import Config, ModelId, RecipeName
from partsong.cli.options import Store as StoreOption
from partsong.cli.printable import single_line
from partsong.cli.question import read_document, read_image, read_question
from partsong.configuration import Configuration, StoreMode, find_configuration
from partsong.documents.reader import DocumentReader
from partsong.engine import perform
from partsong.engine.again import models_asked
from partsong.engine.recalled import Unasked
from partsong.errors import InputError, StoreError
from partsong.events import AnyEvent, RunFailed
from partsong.model import Conversation, Model, Sampling, asking
from partsong.recipe import Agent, Recipe, replace, single
from partsong.recipes.finding import named_recipe

if TYPE_CHECKING:
    from partsong.engine.recalled import Again
    from partsong.store import Store

DEFAULT_RECIPE = "local"
AnyAgent = TypeVar("AnyAgent", bound=Agent)


def ask(
    *question: Annotated[str, Parameter(help="The question; - is read from standard input.")],
    recipe: RecipeName = None,
    model: ModelId = None,
    system: Annotated[
        str, Parameter(name=("--system", "-s"), metavar="TEXT", help="System prompt for every model.")
    ] = "",
    image: Annotated[
        tuple[str, ...],
        Parameter(
            name=("--image", "-i"),
            metavar="FILE|URL",
            consume_multiple=False,
            help="Picture to send with the question; repeat for more.",
        ),
    ] = (),
    file: Annotated[
        tuple[str, ...],
        Parameter(
            name=("--file", "-f"),
            metavar="PATH",
            consume_multiple=False,
            help="PDF or file of text to send with the question; repeat for more.",
        ),
    ] = (),
    go_on: Annotated[
        str | None,
        Parameter(
            name=("--continue", "-c"),
            metavar="RUN",
            completer=candidates.runs,
            help="Go on from the answer of an earlier run: its id, its first letters, or last. "
            "Its recipe is asked unless another is named.",
        ),
    ] = None,
    tools: Annotated[
        tuple[str, ...],
        Parameter(
            name="--tools",
            metavar="NAME",
            consume_multiple=False,
            help="Configured server whose tools the proposers may use to look things up, or the model if it answers "
            "alone; repeat for more.",
        ),
    ] = (),
    temperature: Annotated[
        float | None, Parameter(metavar="T", help="Temperature of the aggregator, from 0 to 2.")
    ] = None,
    max_tokens: Annotated[int | None, Parameter(metavar="N", help="Most tokens of the answer.")] = None,
    deadline: Annotated[
        float | None, Parameter(metavar="S", help="Most that the whole run may take, in seconds.")
    ] = None,
    max_dollars: Annotated[
        Decimal | None, Parameter(metavar="D", help="Most that the run may cost, in dollars.")
    ] = None,
    strict: Annotated[
        bool, Parameter(help="Fail if any model of the recipe is lost, instead of answering without it.")
    ] = False,
    seed: Annotated[
        int | None, Parameter(metavar="N", help="Seed of the run; each seat gets its own seed from it.")
    ] = None,
    cache: Annotated[
        bool | None,
        Parameter(
            negative="--no-cache",
            help="Reuse stored answers to equal calls, or never. Default: only for calls at temperature 0.",
        ),
    ] = None,
    store: StoreOption = None,
    proposals: Annotated[bool, Parameter(help="Print the proposals before the answer.")] = False,
    json: Annotated[bool, Parameter(help="Print every event as a line of JSON.")] = False,
    raw: Annotated[
        bool, Parameter(help="Print the answer as the model wrote it, on a terminal too, so that it can be copied.")
    ] = False,
    quiet: Annotated[
        bool, Parameter(name=("--quiet", "-q"), help="Print only the answer, without losses and figures.")
    ] = False,
    config: Config = None,
) -> int:
    """Ask a mixture of models, or one model, a question."""
    configuration = find_configuration(config)
    before = None if go_on is None else complete(earlier(go_on))
    chosen = capped(before.recipe, configuration) if before and not (recipe or model) else None
    chosen = chosen or choose(recipe, model, configuration)
    if deadline is not None:
        chosen = replace(chosen, deadline=deadline)
    if max_dollars is not None:
        chosen = replace(chosen, max_dollars=max_dollars)
    if strict:
        chosen = replace(chosen, strict=True)
    if seed is not None:
        chosen = reseeded(chosen, seed)
    if tools:
        chosen = looking_up(chosen, tools)
    text = read_question(question, sys.stdin.buffer if sys.stdin else None)
    images = tuple(read_image(source) for source in image)
    documents = tuple(read_document(source, configuration.documents) for source in file)
    conversation = asking(text, system=system, images=images, documents=documents)
    conversation = with_fields(conversation, sampling=sampling_of(temperature, max_tokens))
    if before is not None:
        kept = [message for message in before.messages if not (system and message.role == "system")]
        head, question_asked = conversation.messages[:-1], conversation.messages[-1]
        conversation = with_fields(conversation, messages=(*head, *kept, question_asked))
    return complete(
        answer(
            *(chosen, conversation, configuration, store),
            cache=cache,
            proposals=proposals,
            json=json,
            quiet=quiet,
            raw=raw,
            labels=None if before is None else before.labels,
        )
    )


def sampling_of(temperature: float | None, max_tokens: int | None) -> Sampling:
    """Return the settings of the answer. Raises `InputError` for a number that no model takes."""
    if temperature is not None and not 0 <= temperature <= 2:
        raise InputError(f"--temperature is {temperature:g}, but must be from 0 to 2")
    if max_tokens is not None and max_tokens < 1:
        raise InputError(f"--max-tokens is {max_tokens}, but must be at least 1")
    return Sampling(temperature, max_tokens=max_tokens)


def choose(recipe: str | None, model: str | None, configuration: Configuration) -> Recipe:
    """Return the recipe to perform: that of the options, else the configured recipe, else `local`, which needs no key.

    recipe: name or file of a recipe
    model: id of a model, which answers alone

    A recipe without a cap in dollars gets the configured cap of a run. Raises `InputError` if both a recipe and a model
    are named.
    """
    if recipe is not None and model is not None:
        raise InputError("--recipe and --model exclude each other: a model alone is a recipe of its own")
    chosen = single(model) if model is not None else named_recipe(recipe or configuration.recipe or DEFAULT_RECIPE)
    return capped(chosen, configuration)


def capped(recipe: Recipe, configuration: Configuration) -> Recipe:
    """Return the recipe with the configured cap of a run, unless it has one of its own."""
    if recipe.max_dollars is None and configuration.dollars_per_run is not None:
        return replace(recipe, max_dollars=configuration.dollars_per_run)
    return recipe


def reseeded(recipe: Recipe, seed: int) -> Recipe:
    """Return the recipe with the seed of the run replaced, from which each seat's seed is derived.

    Seeds of single agents are removed, because they would take precedence.
    """
    layers = tuple(
        with_fields(layer, agents=tuple(with_fields(agent, seed=None) for agent in layer.agents))
        for layer in recipe.layers
    )
    return replace(recipe, layers=layers, aggregator=with_fields(recipe.aggregator, seed=None), seed=seed)


def looking_up(recipe: Recipe, tools: tuple[str, ...]) -> Recipe:
    """Return the recipe with these servers for each proposer, or for the aggregator if there are no proposers.

    Raises `InputError` if a name is no name of a server.
    """
    try:
        if not recipe.layers:
            return replace(recipe, aggregator=_with_tools(recipe.aggregator, tools))
        layers = tuple(
            with_fields(layer, agents=tuple(_with_tools(agent, tools) for agent in layer.agents))
            for layer in recipe.layers
        )
    except ValueError as problem:
        raise InputError(f"--tools: {problem}") from None
    return replace(recipe, layers=layers)


def _with_tools(agent: AnyAgent, tools: tuple[str, ...]) -> AnyAgent:
    changed = with_fields(agent, tools=tuple(dict.fromkeys((*agent.tools, *tools))))
    changed.__post_init__()
    return changed


async def answer(
    recipe: Recipe,
    conversation: Conversation,
    configuration: Configuration,
    mode: StoreMode | None,
    *,
    cache: bool | None,
    proposals: bool,
    json: bool,
    quiet: bool,
    raw: bool = False,
    again: "Again | None" = None,
    labels: Mapping[str, str] | None = None,
) -> int:
    """Perform, show and store one run; return the exit code, which is 1 if the run failed.

    mode: what is stored of the run; `None` for what the configuration says
    cache: whether stored answers are used; `None` to use them only for calls at temperature 0
    proposals: whether the proposals are shown too
    json: whether each event is printed as a line of JSON
    quiet: whether only the answer is shown
    raw: whether the answer is printed as it is on a terminal too (default: no)
    again: what the run finds of an earlier one; `None` (default) for nothing
    labels: labels under which the run is stored; `None` (default) for none
    """
    failures: list[RunFailed] = []
    drawn = not json and not raw and sys.stdout.isatty()
    async with AsyncExitStack() as stack:
        store = await keep(stack, configuration, mode)
        with Downloads(sys.stderr) as downloads:
            asked = recipe.models if again is None else models_asked(recipe, again)
            assembly = await stack.enter_async_context(assembling(configuration, fetching=downloads.hear, store=store))
            models: Mapping[str, Model] = await assembly.models(asked)
        if again is not None:
            models = {name: models.get(name) or Unasked() for name in recipe.models}
        recorder = store.record(labels=labels or {}, begins=True)
        stack.push_async_callback(recorder.close)
        listener = await listen(
            stack, drawn=drawn, proposals=proposals, json=json, quiet=quiet, loading=downloads.loading
        )

        async def hear(event: AnyEvent) -> None:
            await recorder.hear(event)
            await listener(event)
            if isinstance(event, RunFailed):
                failures.append(event)

        watch = json or (drawn and not quiet) or beside(json=json, quiet=quiet)
        funds = daily_funds(configuration, store)
        documents, record = DocumentReader(configuration.documents), recorder.id
        await perform(
            recipe,
            conversation,
            models,
            hear,
            watch=watch,
            cache=cache,
            funds=funds,
            documents=documents,
            record=record,
            again=again,
            bounds=configuration.bounds,
            tools=assembly.tools(recipe.tools),
        )
    if store.problem is not None and not quiet:
        print(
            f"partsong: not everything is kept: {single_line(str(store.problem), sys.stderr.encoding)}",
            file=sys.stderr,
        )
    for failed in failures:
        what = "the answer broke off" if failed.text else "no answer"
        print(f"partsong: {what}: {single_line(failed.error.message, sys.stderr.encoding)}", file=sys.stderr)
    return 1 if failures else 0


async def keep(stack: AsyncExitStack, configuration: Configuration, mode: StoreMode | None) -> "Store":
    """Open the store until the stack is left.

    mode: what is stored of runs; `None` for what the configuration says

    If the store cannot be opened, a store that keeps nothing is returned, with the error in `problem`.
    """
    try:
        return await stack.enter_async_context(open_journal(configuration, mode))
    except StoreError as problem:
        store = await stack.enter_async_context(open_journal(configuration, "off"))
        store.health.failed(problem, writing=True)
        return store
