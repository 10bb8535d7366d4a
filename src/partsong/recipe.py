"""A recipe: layers of agents and an aggregator, as data, checked when it is made.

As in the paper, the aggregator counts as a layer: MoA has three layers, two of proposers and the aggregator. Every
`Recipe` can be run: a value that cannot be run is refused here, with the field's name. `recipes` reads recipes from
TOML.
"""

import datetime
from decimal import Decimal
from typing import Any, Literal, assert_never

import msgspec
from msgspec import Struct

from partsong.errors import RecipeError
from partsong.model import Sampling

Layout = Literal["tail", "paper"]
Fit = Literal["fail", "truncate", "window"]
Method = Literal["synthesize", "select"]
LastResort = Literal["fail", "best_proposal"]
Advice = Literal["user_turn", "every_step", "calls"] | int
# Of a run's deadline, the aggregator keeps this share: proposals without an answer are worthless.
AGGREGATOR_RESERVE = 0.4
MAX_SEATS = 1000  # of a layer: more is a slip of the pen, and an expensive one


class Agent(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A model in a part: which one (`provider:model`), how it samples, and what it is told (`system`).

    `samples` asks the same agent that many times, in as many seats (Self-MoA, arXiv 2502.00674). `fallback` names other
    models, which are asked in turn when this one fails. `effort` is how much it reasons, in its provider's words.
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

    def __post_init__(self) -> None:
        for field, identity in (("model", self.model), *(("fallback", name) for name in self.fallback)):
            provider, colon, name = identity.partition(":")
            if not (provider and colon and name):
                raise ValueError(f'{field} is "{identity}", but an id has the form "provider:model"')
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

    @property
    def models(self) -> tuple[str, ...]:
        """The ids that may answer, in the order in which they are asked."""
        return (self.model, *self.fallback)

    @property
    def sampling(self) -> Sampling:
        return Sampling(self.temperature, self.top_p, self.max_tokens, self.seed, self.stop, effort=self.effort)


class Aggregator(Agent, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The one agent that gives the final answer, out of all the proposals of the last layer.

    With the method `synthesize` it writes one; with `select` it names the best proposal, which is the answer as it
    stands (the paper's LLM ranker, section 3.3).
    """

    method: Method = "synthesize"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.samples != 1:
            raise ValueError(f"samples is {self.samples}, but the aggregator answers once; samples belong to agents")


def needs_proposals(aggregator: Aggregator) -> bool:
    """Whether the aggregator's answer is one of the proposals, so that it cannot answer alone."""
    match aggregator.method:
        case "synthesize":
            return False
        case "select":
            return True
        case _:
            assert_never(aggregator.method)


class Layer(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Agents that work at the same time and see the same earlier layer.

    Once `quorum` of the seats have answered, the others get `grace` seconds more; `deadline` bounds the whole layer,
    in seconds. A seat that is too late is lost, and said to be.
    """

    agents: tuple[Agent, ...]
    quorum: int | None = None
    grace: float | None = None
    deadline: float | None = None

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
        _check_deadline(self.deadline)

    @property
    def seats(self) -> tuple[Agent, ...]:
        """An agent for each seat, in order: one with `samples = 3` has three seats."""
        return tuple(agent for agent in self.agents for _ in range(agent.samples))


class Recipe(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Layers of proposers and an aggregator. Without layers it is the aggregator alone: a single model.

    `layout` says where the proposals stand in a prompt (see `prompts`), `instruction` replaces our own wording,
    `deadline` bounds the run in seconds, of which the aggregator keeps the share `reserve`, and with a `seed` every
    seat that has none gets one derived from it. `max_dollars` is what a run may cost. `fit` says what becomes of
    proposals that do not fit a model's window, `last_resort` what becomes of a run whose aggregator fails; with
    `strict`, any loss is a failure.

    Where there are tools, the aggregator acts and proposers advise: once for each turn of the user's (`advice` is
    `user_turn`), at every step of it (`every_step`), or at every n-th (a number); with `calls` at every step, and they
    propose calls as well.
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

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("name is empty, but a recipe needs one")
        if not 0 <= self.reserve <= 0.9:
            raise ValueError(f"reserve is {self.reserve}, but must be a share of the deadline from 0 to 0.9")
        if isinstance(self.advice, int) and self.advice < 1:
            raise ValueError(f"advice is {self.advice}, but a number n, for every n-th step, must be at least 1")
        if self.max_dollars is not None and not (self.max_dollars.is_finite() and self.max_dollars >= 0):
            raise ValueError(f"max_dollars is {self.max_dollars}, but must be 0 dollars or more")
        if self.instruction is not None and not self.instruction.strip():
            raise ValueError("instruction is empty; leave it out to use partsong's own")
        if needs_proposals(self.aggregator) and not self.layers:
            raise ValueError('aggregator.method is "select", but without layers there is nothing to select from')
        _check_deadline(self.deadline)

    @property
    def in_steps(self) -> bool:
        """Whether the aggregator reads proposals in several steps if they do not fit its window at once."""
        match self.fit:
            case "window":
                return not needs_proposals(self.aggregator)  # one that selects must see all proposals at once
            case "truncate" | "fail":
                return False
            case _:
                assert_never(self.fit)

    @property
    def calls(self) -> int:
        """Calls to models that a question costs, if none is repeated."""
        return sum(len(layer.seats) for layer in self.layers) + 1

    @property
    def models(self) -> tuple[str, ...]:
        """Every model id of the recipe, once, in order of appearance."""
        agents = [*(agent for layer in self.layers for agent in layer.agents), self.aggregator]
        return tuple(dict.fromkeys(name for agent in agents for name in agent.models))


def single(model: str) -> Recipe:
    """A recipe that is one model alone. Raises `RecipeError` for an id that is none."""
    try:
        return Recipe(model, (), Aggregator(model))
    except ValueError as problem:
        raise RecipeError(str(problem)) from None


def _check_deadline(deadline: float | None) -> None:
    if deadline is not None and not 0 < deadline < float("inf"):
        raise ValueError(f"deadline is {deadline}, but must be a number of seconds above 0")


def replace(recipe: Recipe, **changes: Any) -> Recipe:
    """The recipe with some fields changed, checked anew. Raises `RecipeError`."""
    try:
        changed = msgspec.structs.replace(recipe, **changes)
        changed.__post_init__()
    except ValueError as problem:
        raise RecipeError(f"{recipe.name}: {problem}") from None
    return changed
