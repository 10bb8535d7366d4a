"""The number that an experiment measures for each contestant, with its interval, in the paper's unit if possible."""

import re

from msgspec import Struct

from partsong.bench.comparison import quality, values_of
from partsong.bench.paper.numbers import ACTIVE, known_as
from partsong.bench.runner import Study
from partsong.bench.task import Grade, Output
from partsong.bench.tasks.alpaca_eval import LEAST
from partsong.recipe import Recipe


class Measured(Struct, frozen=True):
    """A measured number with its 95 % interval, in the unit that `unit_of` names.

    value: the number
    low, high: ends of the interval
    n: number of samples
    """

    value: float
    low: float
    high: float
    n: int


def unit_of(study: Study) -> str:
    """Return the unit of the numbers that `measure` returns for a study.

    The unit is "LC win rate %" or "win rate %" for AlpacaEval, "%" for other tasks graded from 0 to 1, and else "mean
    grade". The length-controlled (LC) win rate needs difficulties and at least `LEAST` samples.
    """
    if study.task.name == "alpaca_eval":
        controlled = getattr(study.task, "difficulty", None) and len(study.samples) >= LEAST
        return "LC win rate %" if controlled else "win rate %"
    return "%" if study.task.scale == (0.0, 1.0) else "mean grade"


def measure(study: Study, contestant: str) -> Measured | None:
    """Return the measured number of one contestant; `None` if none of its answers was graded."""
    values = values_of(study.grades.values(), contestant)
    if not values:
        return None
    spread = quality(values, study.task.scale)
    if unit_of(study) == "LC win rate %":
        figures = study.task.summarise(grades_of(study, contestant), outputs_of(study, contestant))
        if "LC win rate" in figures:
            return Measured(figures["LC win rate"], figures["LC low"], figures["LC high"], spread.n)
    factor = 100.0 if study.task.scale == (0.0, 1.0) else 1.0
    return Measured(factor * spread.mean, factor * spread.low, factor * spread.high, spread.n)


def grades_of(study: Study, contestant: str) -> list[Grade]:
    """Return the grades of one contestant in the study."""
    return [grade for key, grade in study.grades.items() if key[0] == contestant]


def outputs_of(study: Study, contestant: str) -> list[Output]:
    """Return the outputs of one contestant in the study."""
    return [output for key, output in study.outputs.items() if key[0] == contestant]


def work_of(recipe: Recipe) -> float | None:
    """Return the GFLOPs for one token along the slowest path of a recipe; `None` if the size of a model is unknown.

    Each layer counts twice the active parameters of its largest model, and so does the aggregator. The paper uses such
    a number as a substitute for latency (section 3.4), but for an answer instead of a token.
    """
    total = 0.0
    aggregator = recipe.aggregator.models[:1]  # none in a vote that asks nobody
    layers = [[agent.model for agent in layer.agents] for layer in recipe.layers]
    for models in (*layers, *([aggregator] if aggregator else ())):
        sizes = [size_of(model) for model in models]
        known = [size for size in sizes if size is not None]
        if len(known) < len(sizes):
            return None
        total += 2 * max(known)
    return total


def size_of(model: str) -> float | None:
    """Return a model's active parameters in billions; `None` if unknown.

    The number comes from `ACTIVE` for the paper's models, and else from the name in the model's id, such as "8b".
    """
    if (active_known := ACTIVE.get(known_as(model) or "")) is not None:
        return active_known
    name = model.partition(":")[2].partition("?")[0].lower()
    if active := re.search(r"-a(\d+(?:\.\d+)?)b\b", name):  # Qwen3-30B-A3B
        return float(active[1])
    if re.search(r"\d+x\d", name):
        return None
    if found := re.search(r"(?<![\w.])(\d+(?:\.\d+)?)([bm])\b", name):
        return float(found[1]) / (1000 if found[2] == "m" else 1)
    return None
