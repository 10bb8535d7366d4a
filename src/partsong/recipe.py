"""A recipe: layers of agents and an aggregator, as data. Read from TOML or written in Python, checked once.

As in the paper, the aggregator counts as a layer: MoA has three layers, two of proposers and the aggregator.
Whatever stands in a `Recipe` can be run: what cannot be run is refused here, with the field's name.
"""

import datetime
import re
import tomllib
from collections.abc import Iterator
from decimal import Decimal
from importlib import resources
from pathlib import Path
from typing import Any, Literal, assert_never

import msgspec
from msgspec import Struct

from partsong import toml
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


def shipped() -> Iterator[Recipe]:
    """The recipes in the package, by name."""
    folder = resources.files("partsong") / "recipes"
    for name in sorted(item.name for item in folder.iterdir() if item.name.endswith(".toml")):
        with resources.as_file(folder / name) as path:
            yield read(path)


def is_shipped(name: str) -> bool:
    """Whether a recipe of that name is in the package."""
    return (resources.files("partsong") / "recipes" / f"{name}.toml").is_file()


def find_recipe(name: str) -> Recipe:
    """The recipe called `name`: a shipped one, or a TOML file where `name` ends in `.toml` or is a path.

    Raises `RecipeError` with the known names, or with the file and field that is wrong.
    """
    with resources.as_file(resources.files("partsong") / "recipes") as folder:
        return read(_locate(name, Path(), folder))


def source_of(name: str) -> str:
    """The text of the file called `name`, as its author wrote it, whether it is a recipe or not."""
    with resources.as_file(resources.files("partsong") / "recipes") as folder:
        return _locate(name, Path(), folder).read_text(encoding="utf-8")


def read(path: Path) -> Recipe:
    """The recipe in a TOML file. Raises `RecipeError`, naming the file and the field."""
    tables = _including(path, ())
    where = str(path)
    if "instruction" in tables and "instruction_file" in tables:
        raise RecipeError(f"{where}: instruction: give either it or instruction_file, not both")
    if (file := tables.pop("instruction_file", None)) is not None:
        tables["instruction"] = _instruction(file, path)
    if tables.get("layers") == []:
        raise RecipeError(f"{where}: layers: is empty, but a recipe needs at least one [[layers]] table with agents")
    return toml.convert(with_tables(tables), Recipe, where, RecipeError)


def tables_in(text: str) -> dict[str, Any]:
    """The tables of a recipe that stands in no file: it may include shipped recipes, and nothing else of the disk.

    Raises `RecipeError`, and what `tomllib` raises.
    """
    tables = tomllib.loads(text)
    if "instruction_file" in tables:
        raise RecipeError("instruction_file: no file is read for this recipe; write the instruction here")
    other = tables.pop("include", None)
    if other is None:
        return with_tables(tables)
    if not isinstance(other, str) or not re.fullmatch(r"[\w-]+", other):
        raise RecipeError("include: must be the name of a shipped recipe: no other file is read for this recipe")
    with resources.as_file(resources.files("partsong") / "recipes") as folder:
        try:
            target = _locate(other, Path(), folder)
            below = _including(target, ())
        except RecipeError as problem:
            raise RecipeError(f"include: {problem}") from None
        if "instruction_file" in below:
            below["instruction"] = _instruction(below.pop("instruction_file"), target)
    return with_tables(below | tables)


def _including(path: Path, chain: tuple[Path, ...]) -> dict[str, Any]:
    """The file's tables over those of the recipe that it includes, and so on down."""
    here = path.resolve()
    if here in chain:
        circle = " → ".join(item.name for item in (*chain[chain.index(here) :], here))
        raise RecipeError(f"{path}: include: recipes include each other in a circle: {circle}")
    tables = toml.load(path, RecipeError)
    other = tables.pop("include", None)
    if other is None:
        return tables
    if not isinstance(other, str) or not other:
        raise RecipeError(f"{path}: include: must be the name of a recipe or a .toml file, as a string")
    with resources.as_file(resources.files("partsong") / "recipes") as folder:
        try:
            target = _locate(other, path.parent, folder)
        except RecipeError as problem:
            raise RecipeError(f"{path}: include: {problem}") from None
        below = _including(target, (*chain, here))
        if "instruction_file" in below:
            below["instruction"] = _instruction(below.pop("instruction_file"), target)
    if "instruction" in tables or "instruction_file" in tables:
        below.pop("instruction", None)
    return below | tables


def _locate(name: str, base: Path, folder: Path) -> Path:
    if name.endswith(".toml") or "/" in name or "\\" in name:
        return base / Path(name).expanduser()
    path = folder / f"{name}.toml"
    if not path.is_file():
        known = sorted(item.stem for item in folder.glob("*.toml"))
        raise RecipeError(
            f'there is no recipe "{name}"; known: {", ".join(known)}{toml.closest(name, known)} (a file ends in .toml)'
        )
    return path


def _instruction(file: Any, path: Path) -> str:
    if not isinstance(file, str):
        raise RecipeError(f"{path}: instruction_file: must be the name of a text file, as a string")
    try:
        text = (path.parent / file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise RecipeError(f"{path}: instruction_file: {path.parent / file} cannot be read: {problem}") from None
    # The newline that editors put at a file's end is not part of what the model is told.
    return text.removesuffix("\n").removesuffix("\r")


def with_tables(tables: dict[str, Any]) -> dict[str, Any]:
    """The same with each bare model id written out as the table that it stands for."""

    def written_out(agent: Any) -> Any:
        if isinstance(agent, str):
            return {"model": agent}
        if isinstance(agent, dict) and isinstance(agent.get("fallback"), str):
            return agent | {"fallback": [agent["fallback"]]}
        return agent

    tables = dict(tables)
    if "aggregator" in tables:
        tables["aggregator"] = written_out(tables["aggregator"])
    if isinstance(layers := tables.get("layers"), list):
        tables["layers"] = [
            layer | {"agents": [written_out(agent) for agent in layer["agents"]]}
            if isinstance(layer, dict) and isinstance(layer.get("agents"), list)
            else layer
            for layer in layers
        ]
    return tables


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


def overridden(recipe: Recipe, fields: dict[str, Any]) -> Recipe:
    """The recipe with these fields, written as in TOML, in place of its own. Raises `RecipeError`."""
    if "name" in fields:
        raise RecipeError(f"{recipe.name}: name: cannot be replaced")
    whole = msgspec.to_builtins(recipe, builtin_types=(datetime.date, Decimal)) | fields
    return toml.convert(with_tables(whole), Recipe, recipe.name, RecipeError)
