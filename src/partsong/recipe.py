"""A recipe as data: layers of agents, perhaps an analyst, and an aggregator.

Every `Recipe` can be run: making one that cannot be run raises `ValueError`, which names the field. In the paper's
count the aggregator is a layer too, so that MoA has three layers: two of proposers, and the aggregator. `recipes` reads
recipes from TOML.
"""

import datetime
from decimal import Decimal
from typing import Any, Literal, assert_never

import msgspec
from msgspec import Struct

from partsong.analysis import LEAST_PROPOSALS
from partsong.errors import RecipeError
from partsong.ids import LONGEST_MODEL, LONGEST_NAME, fault, shown, suggested
from partsong.model import Sampling

Layout = Literal["tail", "paper"]
Fit = Literal["fail", "truncate", "window"]
Method = Literal["synthesize", "select", "vote"]
Otherwise = Literal["synthesize", "select", "fail"]
Same = Literal["final", "text"]
LastResort = Literal["fail", "best_proposal"]
Advice = Literal["user_turn", "every_step", "calls"] | int
Sees = Literal["all", "none", "split"] | int
# Share of a run's deadline that is kept for the aggregator: proposals without an answer are worthless.
AGGREGATOR_RESERVE = 0.4
ANALYST_SEAT = 1  # of the analyst, whose layer is the aggregator's; the aggregator has seat 0
STEPS = 6  # rounds of tool calls of an agent that does not say how many
MOST_STEPS = 50  # rounds of tool calls: each is one more call of the model, with a longer prompt
LARGEST_EXTRA = 16_384  # bytes of an agent's extra fields as JSON
# Fields of a request that partsong sets in every request, or that would change how many answers or tokens it pays for.
OWN_FIELDS = frozenset(
    {"model", "messages", "system", "stream", "stream_options", "n", "max_tokens", "max_completion_tokens"}
)
MOST_SERVERS = 16  # servers whose tools one agent may use
MAX_SEATS = 1000  # of a layer: a larger number is probably a typing error, and an expensive one


class Agent(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A model with its sampling and its role prompt. `None` (the default) leaves a setting to the provider.

    model: id of the model, `provider:model`
    samples: number of seats, from 1 to 1000, in which the agent is asked (default 1; Self-MoA, arXiv 2502.00674)
    temperature: randomness of the sampling, from 0 to 2
    top_p: share of the probability mass, above 0 and up to 1, among which tokens are sampled
    max_tokens: most output tokens
    seed: seed of the provider's random numbers; each further sample gets the next number
    stop: texts at which the answer ends; empty (default) for none
    system: system prompt of the agent, after the caller's; "" (default) for none
    fallback: ids of models that are asked in turn if `model` fails; empty (default) for none
    effort: how much the model reasons, in its provider's words (`low`, `high` …)
    instruction: text that tells the agent what to do with the proposals that it reads; `None` (default) for the
        instruction of its layer or of the recipe. It has no effect where the agent reads no proposals.
    tools: names of configured servers whose tools the agent may use to look things up; empty (default) for none
    steps: most rounds of tool calls, from 1 to 50, before the agent must answer; `None` (default) means 6
    extra: fields that are passed on to the provider as they are, in the body of each request; empty (default) for none
    """

    model: str
    samples: int = 1
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    system: str = ""
    fallback: tuple[str, ...] = ()
    effort: str | None = None
    instruction: str | None = None
    tools: tuple[str, ...] = ()
    steps: int | None = None
    extra: dict[str, Any] = {}

    def __post_init__(self) -> None:
        for field, identity in (("model", self.model), *(("fallback", name) for name in self.fallback)):
            if not identity and self.needs_no_model:
                continue
            if identity and (wrong := fault(identity, LONGEST_MODEL)):
                raise ValueError(f'{field} is "{shown(identity)}", which {wrong}')
            provider, colon, name = identity.partition(":")
            if not (provider and colon and name):
                raise ValueError(
                    f'{field} is "{identity}", but an id has the form "provider:model"{suggested(identity)}'
                )
        if len({self.model, *self.fallback}) <= len(self.fallback):
            raise ValueError(f"fallback names a model twice: {', '.join((self.model, *self.fallback))}")
        if not 1 <= self.samples <= MAX_SEATS:
            raise ValueError(f"samples is {self.samples}, but must be from 1 to {MAX_SEATS}")
        if self.temperature is not None and not 0 <= self.temperature <= 2:
            raise ValueError(f"temperature is {self.temperature}, but must be from 0 to 2")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}, but must be above 0 and at most 1")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ValueError(f"max_tokens is {self.max_tokens}, but must be at least 1")
        _check_instruction(self.instruction)
        _check_tools(self.tools, self.steps)
        _check_extra(self.extra, self.tools)

    @property
    def needs_no_model(self) -> bool:
        """Whether nothing can ask the agent, so that its model may be left out."""
        return False

    @property
    def models(self) -> tuple[str, ...]:
        """The ids of the agent's model and its fallbacks, in the order in which they are asked."""
        return () if self.needs_no_model else (self.model, *self.fallback)

    @property
    def rounds(self) -> int:
        """Most rounds of tool calls before the agent must answer; 0 without tools."""
        return (STEPS if self.steps is None else self.steps) if self.tools else 0

    @property
    def sampling(self) -> Sampling:
        return Sampling(self.temperature, self.top_p, self.max_tokens, self.seed, self.stop, effort=self.effort)


class Aggregator(Agent, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The agent that reads the proposals of the last layer and gives the answer of the run.

    model: id of the model; may be left out where nothing can ask the aggregator (a vote whose `otherwise` is "fail")
    method: `synthesize` (default) to write an answer out of the proposals, `select` to name the best proposal, or
        `vote` to count what the proposals state. The selected or elected proposal is the answer without a change (the
        LLM ranker of the paper, section 3.3; self-consistency, arXiv 2203.11171).
    majority: share of the last layer's seats, from 0 to below 1, that more than must state the same to win a vote
        (default 0.5); 0 for a plurality
    otherwise: what is done without a majority: "synthesize" (default) or "select", as the methods of these names, or
        "fail" to fail the run
    """

    model: str = ""
    method: Method = "synthesize"
    majority: float = 0.5
    otherwise: Otherwise = "synthesize"

    def __post_init__(self) -> None:
        if not self.model and not self.needs_no_model:
            raise ValueError('model is missing, and only a vote whose otherwise is "fail" needs none')
        super().__post_init__()
        if self.samples != 1:
            raise ValueError(f"samples is {self.samples}, but the aggregator answers once; samples belong to agents")
        if not 0 <= self.majority < 1:
            raise ValueError(f"majority is {self.majority}, but must be a share of the seats from 0 to below 1")

    @property
    def needs_no_model(self) -> bool:
        return self.when_asked == "fail"

    @property
    def when_asked(self) -> Otherwise:
        """What the aggregator does when it is asked: its method or, after a vote without a majority, `otherwise`."""
        match self.method:
            case "synthesize" | "select":
                return self.method
            case "vote":
                return self.otherwise
            case _:
                assert_never(self.method)


def needs_proposals(aggregator: Aggregator) -> bool:
    """Whether the answer is one of the proposals, or may be one, so that there is no answer without proposals."""
    match aggregator.method:
        case "synthesize":
            return False
        case "select" | "vote":
            return True
        case _:
            assert_never(aggregator.method)


class Analyst(Agent, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The agent that compares the proposals of the last layer before the aggregator reads them; see `analysis`.

    instruction: text that replaces partsong's own instruction for comparing; `None` (default) for partsong's. What form
        the result must have is told after it in every case.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.samples != 1:
            raise ValueError(f"samples is {self.samples}, but the analyst is asked once; samples belong to agents")


class Layer(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Agents that are asked at the same time, and read the proposals of the layer before.

    agents: at least one agent; together they have at most 1000 seats
    quorum: number of answers after which the other seats have `grace` seconds left; `None` (default) to wait for all
    grace: seconds that the other seats have after the quorum; `None` (default) means 0
    deadline: seconds after which the whole layer ends; `None` (default) for no limit
    agree: number of seats, at least 2, after which the run ends if they state the same: one of their proposals is the
        answer, and the other seats are spared; `None` (default) to let the layer end (arXiv 2305.11860)
    at_once: number of seats that are open at a time, begun in seat order; `None` (default) for all
    sees: which of the earlier proposals each seat reads: "all" (default), "none", "split" to deal them out over the
        seats, or a number k for k of them by a draw of the seat's own
    comments: whether the layer writes comments on the earlier proposals, which stay on the table (default: no)
    instruction: text that tells the agents what to do with the proposals that they read; `None` (default) for the
        instruction of the recipe, or for partsong's own if the layer comments

    A seat without an answer at the end of the layer is lost and reported as a loss, unless it was spared.
    """

    agents: tuple[Agent, ...]
    quorum: int | None = None
    grace: float | None = None
    deadline: float | None = None
    agree: int | None = None
    at_once: int | None = None
    sees: Sees = "all"
    comments: bool = False
    instruction: str | None = None

    def __post_init__(self) -> None:
        if not self.agents:
            raise ValueError("agents is empty, but a layer needs at least one agent")
        seats = sum(agent.samples for agent in self.agents)
        if seats > MAX_SEATS:
            raise ValueError(f"the layer has {seats} seats, but at most {MAX_SEATS} make sense")
        if self.quorum is not None and not 1 <= self.quorum <= seats:
            raise ValueError(f"quorum is {self.quorum}, but must be from 1 to the layer's {seats} seats")
        if self.grace is not None and self.quorum is None:
            raise ValueError("grace is given without a quorum: it begins when the quorum has answered")
        if self.grace is not None and not 0 <= self.grace < float("inf"):
            raise ValueError(f"grace is {self.grace}, but must be 0 seconds or more")
        if self.agree is not None and not 2 <= self.agree <= seats:
            raise ValueError(f"agree is {self.agree}, but must be from 2 to the layer's {seats} seats")
        if self.at_once is not None and self.at_once < 1:
            raise ValueError(f"at_once is {self.at_once}, but at least 1 seat must be open at a time")
        if isinstance(self.sees, int) and not 1 <= self.sees <= MAX_SEATS:
            raise ValueError(f"sees is {self.sees}, but a number of proposals must be from 1 to {MAX_SEATS}")
        if self.comments and self.sees == "none":
            raise ValueError('sees is "none", but a layer that comments must see proposals to write about')
        if self.comments and self.agree is not None:
            raise ValueError(f"agree is {self.agree}, but the layer writes comments, which are never counted")
        _check_deadline(self.deadline)
        _check_instruction(self.instruction)

    @property
    def seats(self) -> tuple[Agent, ...]:
        """The agent of each seat, in seat order. An agent with `samples = 3` occurs three times."""
        return tuple(agent for agent in self.agents for _ in range(agent.samples))

    @property
    def voices(self) -> int:
        """The number of seats that can differ. Seats of one model at temperature 0, or with one seed, cannot.

        Seats with different system prompts, instructions or efforts can. The recipe's own seed gives each seat its own.
        """
        voices: set[tuple[object, ...]] = set()
        for index, agent in enumerate(self.agents):
            told = (
                agent.model,
                agent.system,
                agent.instruction,
                agent.effort,
                agent.tools,
                agent.steps,
                str(agent.extra),
            )
            for sample in range(agent.samples):
                if agent.temperature == 0:
                    voices.add((*told, "cold"))
                elif agent.seed is not None:
                    voices.add((*told, agent.seed + sample))
                else:
                    voices.add((*told, index, sample, "free"))
        return len(voices)


class Recipe(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Layers of proposers, and an aggregator. A recipe without layers is a single model.

    name: name of the recipe
    layers: the layers of proposers, in the order in which they are performed
    aggregator: the agent that gives the answer
    about: description for people; "" (default) for none
    date: day on which the model ids were valid; `None` (default) if unknown
    layout: where the proposals stand in a prompt, "tail" (default) or "paper"; see `prompts`
    instruction: text that replaces partsong's own instruction for reading proposals; `None` (default) for partsong's
    deadline: seconds after which the run ends; `None` (default) for no limit
    reserve: share of the deadline, from 0 to 0.9, that is kept for the aggregator (default 0.4)
    max_dollars: most dollars for a run; `None` (default) for no limit
    strict: whether the first loss ends the run (default: no)
    fit: what is done if proposals do not fit a model's window: "truncate" (default) shortens them, "window" lets the
        aggregator read them in several steps, "fail" fails the call
    last_resort: what is done if the aggregator fails: "fail" (default) fails the run, "best_proposal" answers with the
        proposal that is most like the others
    seed: number from which every seat without a seed gets its own; `None` (default) for no seeds
    same: what a vote and `agree` count as the same: "final" (default) what two proposals state, or "text" their whole
        text
    advice: when proposers are asked while the aggregator acts with tools: "user_turn" (default) once for each message
        of the user, "every_step" before every step, a number n before every n-th step. With "calls" they are asked
        before every step, and propose tool calls as well.
    analyst: agent that compares the proposals of the last layer for the aggregator; `None` (default) for none
    """

    name: str
    layers: tuple[Layer, ...]
    aggregator: Aggregator
    about: str = ""
    date: datetime.date | None = None
    layout: Layout = "tail"
    instruction: str | None = None
    deadline: float | None = None
    reserve: float = AGGREGATOR_RESERVE
    max_dollars: Decimal | None = None
    strict: bool = False
    fit: Fit = "truncate"
    last_resort: LastResort = "fail"
    seed: int | None = None
    advice: Advice = "user_turn"
    analyst: Analyst | None = None
    same: Same = "final"

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("name is empty, but a recipe needs one")
        if wrong := fault(self.name, LONGEST_MODEL):  # a recipe of a single model has the model's id as its name
            raise ValueError(f'name is "{shown(self.name)}", which {wrong}')
        if not 0 <= self.reserve <= 0.9:
            raise ValueError(f"reserve is {self.reserve}, but must be a share of the deadline from 0 to 0.9")
        if isinstance(self.advice, int) and self.advice < 1:
            raise ValueError(f"advice is {self.advice}, but a number n, for every n-th step, must be at least 1")
        if self.max_dollars is not None and not (self.max_dollars.is_finite() and self.max_dollars >= 0):
            raise ValueError(f"max_dollars is {self.max_dollars}, but must be 0 dollars or more")
        _check_instruction(self.instruction)
        _check_reading(self.layers, self.layout)
        if needs_proposals(self.aggregator) and not self.layers:
            method = self.aggregator.method
            act = "select from" if method == "select" else "vote on"
            raise ValueError(f'aggregator.method is "{method}", but without layers there is nothing to {act}')
        for index, layer in enumerate(self.layers):
            if layer.agree is not None and layer.voices < 2:
                raise ValueError(f"layers[{index}].agree is {layer.agree}, but {_ONE_VOICE}")
        if self.aggregator.method == "vote" and (voters := self.layers[self.last_proposers or 0]).voices < 2:
            seats = len(voters.seats)
            why = _ONE_VOICE if seats > 1 else "the last layer has only one seat, and a vote needs two"
            raise ValueError(f'aggregator.method is "vote", but {why}')
        last = self.last_proposers
        if (
            self.analyst is not None
            and (seats := 0 if last is None else len(self.layers[last].seats)) < LEAST_PROPOSALS
        ):
            where = "there are no layers" if last is None else f"the last layer has {seats} seat"
            raise ValueError(f"analyst compares at least {LEAST_PROPOSALS} proposals, but {where}")
        if self.analyst is not None and not self.aggregator.models:
            raise ValueError("analyst is given, but nothing can ask the aggregator, which would read the analysis")
        _check_deadline(self.deadline)

    @property
    def in_steps(self) -> bool:
        """Whether the aggregator reads proposals in several steps if they do not fit its window at once."""
        match self.fit:
            case "window":
                return self.aggregator.when_asked == "synthesize"  # who selects must see all at once
            case "truncate" | "fail":
                return False
            case _:
                assert_never(self.fit)

    @property
    def last_proposers(self) -> int | None:
        """The index of the layer whose proposals the aggregator reads: the last that does not comment, if any."""
        proposing = (index for index in reversed(range(len(self.layers))) if not self.layers[index].comments)
        return next(proposing, None)

    @property
    def calls(self) -> int:
        """Most calls to models in a run without retries, fallbacks or steps: one a seat, and one to aggregate.

        An analyst is one call more. The further calls of agents that look things up are not counted.
        """
        seats = sum(len(layer.seats) for layer in self.layers)
        return seats + (self.analyst is not None) + bool(self.aggregator.models)

    @property
    def models(self) -> tuple[str, ...]:
        """Every model id of the recipe, fallbacks included, once and in order of appearance."""
        return tuple(dict.fromkeys(name for agent in self.agents for name in agent.models))

    @property
    def tools(self) -> tuple[str, ...]:
        """The name of every server whose tools an agent may use, once and in order of appearance."""
        return tuple(dict.fromkeys(name for agent in self.agents for name in agent.tools))

    @property
    def agents(self) -> tuple[Agent, ...]:
        """The agents of all layers, the analyst if there is one, and the aggregator."""
        analyst = () if self.analyst is None else (self.analyst,)
        return (*(agent for layer in self.layers for agent in layer.agents), *analyst, self.aggregator)


def single(model: str) -> Recipe:
    """The recipe without layers that asks only the model with this id.

    Raises `RecipeError` if `model` has not the form `provider:model`.
    """
    try:
        return Recipe(model, (), Aggregator(model))
    except ValueError as problem:
        raise RecipeError(str(problem)) from None


def _check_reading(layers: tuple[Layer, ...], layout: Layout) -> None:
    """Raise `ValueError` if a layer is to see or to comment on proposals, and there are none, or they have no marks."""
    if layers and layers[0].sees != "all":
        raise ValueError("layers[0].sees is given, but the first layer has no proposals to see")
    if layers and layers[0].comments:
        raise ValueError("layers[0].comments is true, but the first layer has no proposals to write about")
    commenting = next((index for index, layer in enumerate(layers) if layer.comments), None)
    if commenting is not None and layout == "paper":
        raise ValueError(
            f'layers[{commenting}].comments is true, but the layout "paper" has no marks that tell comments from '
            'proposals; use the layout "tail"'
        )


def _check_tools(tools: tuple[str, ...], steps: int | None) -> None:
    if len(tools) > MOST_SERVERS:
        raise ValueError(f"tools names {len(tools)} servers, but at most {MOST_SERVERS} can be used by one agent")
    for name in tools:
        if wrong := fault(name, LONGEST_NAME):
            raise ValueError(f'tools has "{shown(name)}", which {wrong}')
    if len(set(tools)) < len(tools):
        raise ValueError(f"tools names a server twice: {', '.join(tools)}")
    if steps is not None and not tools:
        raise ValueError(f"steps is {steps}, but without tools there are no rounds of tool calls")
    if steps is not None and not 1 <= steps <= MOST_STEPS:
        raise ValueError(f"steps is {steps}, but must be from 1 to {MOST_STEPS}")


def _check_extra(extra: dict[str, Any], tools: tuple[str, ...]) -> None:
    for name in extra:
        if name in OWN_FIELDS or (tools and name in ("tools", "tool_choice")):
            raise ValueError(f"extra.{shown(name)} would replace what partsong sets itself")
    try:
        size = len(msgspec.json.encode(extra))
    except (TypeError, ValueError, RecursionError):
        raise ValueError("extra has a value that JSON cannot hold") from None
    if size > LARGEST_EXTRA:
        raise ValueError(f"extra has {size:,} bytes as JSON, but at most {LARGEST_EXTRA:,} are taken")


def _check_instruction(instruction: str | None) -> None:
    if instruction is not None and not instruction.strip():
        raise ValueError("instruction is empty; leave it out to use partsong's own")


_ONE_VOICE = (
    "all its seats are one voice: one model with one prompt at temperature 0, or with one seed, says the same each time"
)


def _check_deadline(deadline: float | None) -> None:
    if deadline is not None and not 0 < deadline < float("inf"):
        raise ValueError(f"deadline is {deadline}, but must be a number of seconds above 0")


def replace(recipe: Recipe, **changes: Any) -> Recipe:
    """The recipe with changed fields, which are checked. Raises `RecipeError` if the changed recipe cannot be run.

    changes: new values, by the name of the field
    """
    try:
        changed = msgspec.structs.replace(recipe, **changes)
        changed.__post_init__()
    except ValueError as problem:
        raise RecipeError(f"{recipe.name}: {problem}") from None
    return changed
