"""The tables and figures of the paper (exhibits) as experiments: the recipes to compare, and the paper's numbers.

A cast names the models: the proposers, the aggregator, and others to compare with. Rows about a number of proposers
have the paper's number if the paper has this number of proposers, whatever the models are. Rows about a model have the
paper's number only if the paper has the model.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from partsong.bench.paper.numbers import (
    FIGURE_4A,
    TABLE_2A,
    TABLE_2B,
    TABLE_3,
    TABLE_4,
    TABLE_8,
    known_as,
)
from partsong.recipe import Agent, Aggregator, Layer, Method, Recipe

TEMPERATURE = 0.7  # of all models, as in the paper
MAX_TOKENS = 2048  # default of the most tokens of an answer
MOST_LAYERS = 4  # in Figures 4a and 6


@dataclass(frozen=True, slots=True)
class Cast:
    """The models of an experiment, by id.

    proposers: models that propose
    aggregator: model that aggregates
    others: models to compare with, alone and as aggregators of the same proposers; none by default
    max_tokens: most tokens of each answer; 2048 by default
    """

    proposers: tuple[str, ...]
    aggregator: str
    others: tuple[str, ...] = ()
    max_tokens: int = MAX_TOKENS

    @property
    def aggregators(self) -> tuple[str, ...]:
        """All models that aggregate in some row: the others, then the aggregator, then the proposers."""
        return tuple(dict.fromkeys((*self.others, self.aggregator, *self.proposers)))


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table, or one point of a figure.

    label: name of the row
    recipe: the recipe that is measured
    paper: the number that the paper reports; `None` if the paper does not have the row
    series: line of the figure that the point belongs to; empty for a table
    layers: number of layers, the aggregator being the last layer; 0 for a table
    """

    label: str
    recipe: Recipe
    paper: float | None = None
    series: str = ""
    layers: int = 0


@dataclass(frozen=True, slots=True)
class Exhibit:
    """One table or figure of the paper.

    name: name on the command line, such as "table-3"
    title: what the exhibit shows
    task: task on which the paper measured
    measure: number that the paper reports
    rows: returns the rows for a cast
    kind: how the result is drawn: "table" (bars), "layers", "skills", "rho" or "cost"; "table" by default
    """

    name: str
    title: str
    task: str
    measure: str
    rows: Callable[[Cast], Sequence[Row]]
    kind: str = "table"


def mixture(cast: Cast, name: str, aggregator: str, layers: int, proposers: Sequence[Agent] | None = None) -> Recipe:
    """Return a mixture with `layers` layers, of which the aggregator is the last.

    name: name of the recipe
    aggregator: id of the model that aggregates
    proposers: agents of each other layer; by default the proposers of the cast
    """
    agents = tuple(proposers) if proposers is not None else tuple(_agent(cast, model) for model in cast.proposers)
    return _recipe(cast, name, (Layer(agents),) * (layers - 1), aggregator)


def _recipe(cast: Cast, name: str, layers: tuple[Layer, ...], aggregator: str, method: Method = "synthesize") -> Recipe:
    last = Aggregator(aggregator, temperature=TEMPERATURE, max_tokens=cast.max_tokens, method=method)
    return Recipe(name, layers, last, layout="paper")


def _agent(cast: Cast, model: str, samples: int = 1) -> Agent:
    return Agent(model, samples=samples, temperature=TEMPERATURE, max_tokens=cast.max_tokens)


def _alone(cast: Cast, model: str) -> Recipe:
    return _recipe(cast, model, (), model)


def _mixtures_and_models(cast: Cast) -> Iterator[tuple[str, str | None, Recipe]]:
    """Yield the rows of Tables 2a and 2b and Figure 5: label, name in the paper (`None` if not in it), and recipe."""
    lite = cast.proposers[1] if len(cast.proposers) > 1 else cast.aggregator
    for other in cast.others:
        paper = "MoA with GPT-4o" if known_as(other) == "GPT-4o" else None
        yield f"MoA with {other}", paper, mixture(cast, f"MoA with {other}", other, 3)
    yield "MoA", "MoA", mixture(cast, "MoA", cast.aggregator, 3)
    yield "MoA-Lite", "MoA-Lite", mixture(cast, "MoA-Lite", lite, 2)
    for model in cast.aggregators:
        yield model, known_as(model), _alone(cast, model)


def table_2a(cast: Cast) -> list[Row]:
    """Return the mixtures and their members alone, with the paper's LC win rates."""
    return [
        Row(label, recipe, TABLE_2A.get(paper or "", (None,))[0]) for label, paper, recipe in _mixtures_and_models(cast)
    ]


def table_2b(cast: Cast) -> list[Row]:
    """Return the mixtures and their members alone, with the paper's MT-Bench grades."""
    return [Row(label, recipe, TABLE_2B.get(paper or "")) for label, paper, recipe in _mixtures_and_models(cast)]


def figure_3(cast: Cast) -> list[Row]:
    """Return the mixture with three layers, and the aggregator and the other models alone."""
    return [
        Row("MoA", mixture(cast, "MoA", cast.aggregator, 3)),
        *(Row(model, _alone(cast, model)) for model in dict.fromkeys((cast.aggregator, *cast.others))),
    ]


def table_3(cast: Cast) -> list[Row]:
    """Return mixtures with different numbers of proposers: different models, or samples of the aggregator's model.

    A single proposer has the aggregator's model.
    """
    rows = []
    whole = len(cast.proposers)
    for count in sorted({whole, *(count for count in TABLE_3 if count < whole)}, reverse=True):
        several, one = TABLE_3.get(count, (None, None))
        itself = _agent(cast, cast.aggregator, count)
        if count == 1:
            name = f"1 proposer: {cast.aggregator}"
            rows.append(Row(name, mixture(cast, name, cast.aggregator, 2, [itself]), several))
            continue
        agents = [_agent(cast, model) for model in cast.proposers[:count]]
        name = f"{count} proposers, of {count} models"
        rows.append(Row(name, mixture(cast, name, cast.aggregator, 2, agents), several))
        name = f"{count} proposers, all {cast.aggregator}"
        rows.append(Row(name, mixture(cast, name, cast.aggregator, 2, [itself]), one))
    return rows


def table_4(cast: Cast) -> list[Row]:
    """Return two rows for each proposer's model: as the aggregator, and as the only proposer."""
    rows, count = [], len(cast.proposers)
    for model in cast.proposers:
        both = TABLE_4.get(known_as(model) or "", (None, None))
        name = f"{model} aggregates all {count}"
        rows.append(Row(name, mixture(cast, name, model, 2), both[0]))
        name = f"{model} alone proposes, {count} times"
        agents = [_agent(cast, model, count)]
        rows.append(Row(name, mixture(cast, name, cast.aggregator, 2, agents), both[1]))
    return rows


def table_8(cast: Cast) -> list[Row]:
    """Return mixtures with one to three layers for each proposer's model as the aggregator."""
    return [
        row for model in cast.proposers for row in _by_layers(cast, model, 3, TABLE_8.get(known_as(model) or "", ()))
    ]


def figure_4a(cast: Cast) -> list[Row]:
    """Return mixtures with one to four layers for every aggregator, and with the cast's aggregator as an LLM ranker.

    An LLM ranker selects one of the proposals instead of writing an answer.
    """
    rows = [
        row
        for model in cast.aggregators
        for row in _by_layers(cast, model, MOST_LAYERS, FIGURE_4A.get(known_as(model) or "", ()))
    ]
    agents = tuple(_agent(cast, model) for model in cast.proposers)
    for layers in range(2, MOST_LAYERS + 1):
        name = f"LLM ranker {cast.aggregator}, {layers} layers"
        recipe = _recipe(cast, name, (Layer(agents),) * (layers - 1), cast.aggregator, "select")
        rows.append(Row(name, recipe, FIGURE_4A["LLM ranker"][layers - 1], "LLM ranker", layers))
    return rows


def figure_4b(cast: Cast) -> list[Row]:
    """Return a mixture with two layers for each proposer's model as the aggregator."""
    return [
        Row(model, mixture(cast, f"{model} aggregates", model, 2), series=model, layers=2) for model in cast.proposers
    ]


def figure_6(cast: Cast) -> list[Row]:
    """Return mixtures with 2, 3 and 4 layers for each proposer's model as the aggregator.

    The last aggregation in these mixtures is the first, second and third aggregation of the paper's figure.
    """
    return [
        Row(
            f"{model}, aggregation {layers - 1}",
            mixture(cast, f"{model}, {layers} layers", model, layers),
            None,
            model,
            layers,
        )
        for model in cast.proposers
        for layers in range(2, MOST_LAYERS + 1)
    ]


def _by_layers(cast: Cast, model: str, most: int, paper: Sequence[float | None]) -> list[Row]:
    """Return mixtures with 1 to `most` layers whose aggregator is `model`. `paper` has the paper's number for each."""
    rows = []
    for layers in range(1, most + 1):
        name = f"{model}, {layers} layer{'s' * (layers > 1)}"
        found = paper[layers - 1] if layers <= len(paper) else None
        rows.append(Row(name, mixture(cast, name, model, layers), found, model, layers))
    return rows


LC = "LC win rate"
EXHIBITS = {
    each.name: each
    for each in (
        Exhibit("table-2a", "The mixtures and their members on AlpacaEval 2.0", "alpaca_eval", LC, table_2a),
        Exhibit("table-2b", "The mixtures and their members on MT-Bench", "mt_bench", "grade", table_2b),
        Exhibit("table-3", "Number and kind of proposers", "alpaca_eval", LC, table_3),
        Exhibit("table-4", "Every model as aggregator, and as the only proposer", "alpaca_eval", LC, table_4),
        Exhibit("table-8", "MATH by aggregator and number of layers", "math", "accuracy", table_8, "layers"),
        Exhibit("figure-3", "FLASK's twelve skills", "flask", "grade", figure_3, "skills"),
        Exhibit("figure-4a", "Layers by aggregator, and the LLM ranker", "alpaca_eval", LC, figure_4a, "layers"),
        Exhibit(
            "figure-4b",
            "What the aggregator takes up: similarity to good proposals",
            "alpaca_eval",
            "rho",
            figure_4b,
            "rho",
        ),
        Exhibit("figure-5", "Quality against cost, and against compute", "alpaca_eval", LC, table_2a, "cost"),
        Exhibit(
            "figure-6", "What the first, second and third aggregation take up", "alpaca_eval", "rho", figure_6, "rho"
        ),
    )
}
