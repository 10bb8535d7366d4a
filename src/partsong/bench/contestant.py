"""Who answers in a study: a recipe, or several answers of it of which one is taken.

Several answers and a vote are no mixture, yet they cost as much as one: what a mixture has to be compared with. Every
run of a study has seeds of its own, so that no answer that was drawn stands in for another one.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace as with_fields

from partsong.bench.equivalence import choice, meaning
from partsong.bench.task import Output, Sample
from partsong.engine.likeness import most_alike
from partsong.recipe import Agent, Aggregator, Layer, Recipe
from partsong.recipe import replace as changed


class Contestant(Struct, frozen=True, omit_defaults=True):
    """A recipe, asked `samples` times for each answer, of which the one is taken that most of them agree with."""

    recipe: Recipe
    samples: int = 1

    @property
    def calls(self) -> int:
        return self.recipe.calls * self.samples


def picking(name: str, member: Agent, count: int) -> Contestant:
    """The member asked so many times, and then once more which of its answers is the best.

    Where it names none, the answer is the one most like the others.
    """
    chooser = Aggregator(
        member.model, temperature=0.0, max_tokens=member.max_tokens, fallback=member.fallback, method="select"
    )
    agent = with_fields(sampling_anew(member), samples=count)
    return Contestant(Recipe(name, (Layer((agent,)),), chooser, last_resort="best_proposal"))


def alone(name: str, member: Agent) -> Recipe:
    """A member of a recipe as a recipe of its own: it is told what it is there, and draws for itself."""
    return Recipe(name, (), Aggregator(**_fields(with_fields(member, seed=None))))


def proposing(member: Agent) -> Agent:
    """A member, were it the aggregator, as one that proposes, once."""
    return Agent(**_fields(member))


def sampling_anew(member: Agent) -> Agent:
    """The member so that its samples differ: at the paper's temperature where it has none, or one of 0."""
    return with_fields(member, temperature=member.temperature or 0.7, seed=None)


def reseeded(recipe: Recipe, *drawn_for: object, anew: bool) -> Recipe:
    """The recipe with a seed of its own for what it is drawn for. `anew`: agents with a seed get another one, too."""
    words = "/".join(str(each) for each in (recipe.seed, *drawn_for))
    seed = int.from_bytes(hashlib.sha256(words.encode()).digest()[:4], "big") >> 1
    if not anew:
        return changed(recipe, seed=seed)
    layers = tuple(
        with_fields(layer, agents=tuple(with_fields(agent, seed=None) for agent in layer.agents))
        for layer in recipe.layers
    )
    return changed(recipe, seed=seed, layers=layers, aggregator=with_fields(recipe.aggregator, seed=None))


def voted(sample: Sample, outputs: Sequence[Output]) -> int:
    """The place of the output to take: the first with the final answer that most have, or that is most like the rest.

    Only where a right answer is known are final answers counted: two essays do not end alike.
    """
    texts = [output.answers[-1] for output in outputs]
    if not sample.reference or sample.labels.get("kind") == "text":
        return most_alike(texts)
    ends = [choice(text) if sample.labels.get("kind") == "choice" else meaning(text) for text in texts]
    counts = Counter(end for end in ends if end not in (None, ""))
    return ends.index(counts.most_common(1)[0][0]) if counts else 0


def _fields(member: Agent) -> dict[str, Any]:
    return {field: getattr(member, field) for field in Agent.__struct_fields__ if field != "samples"}
