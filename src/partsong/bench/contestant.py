"""A contestant of a study: a recipe that is asked once, or several times with a vote over the answers.

Several answers of one model cost as much as a mixture, so a mixture is compared with a vote over them. Every run of a
study has its own seed, so that a sampled answer in the store is never used for another sample.
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
    """A recipe, and how many times it is asked for each answer. Of several answers, the majority's is taken."""

    recipe: Recipe
    samples: int = 1

    @property
    def calls(self) -> int:
        return self.recipe.calls * self.samples


def picking(name: str, member: Agent, count: int) -> Contestant:
    """A contestant that asks the model of `member` `count` times, and then once more which answer is the best.

    If the model names none of them, the answer that is most similar to the others is taken.
    """
    chooser = Aggregator(
        member.model, temperature=0.0, max_tokens=member.max_tokens, fallback=member.fallback, method="select"
    )
    agent = with_fields(sampling_anew(member), samples=count)
    return Contestant(Recipe(name, (Layer((agent,)),), chooser, last_resort="best_proposal"))


def alone(name: str, member: Agent) -> Recipe:
    """A recipe in which one agent of another recipe answers alone, with the same settings but no seed."""
    return Recipe(name, (), Aggregator(**_fields(with_fields(member, seed=None))))


def proposing(member: Agent) -> Agent:
    """An agent or an aggregator as an agent that proposes once, with the same settings."""
    return Agent(**_fields(member))


def sampling_anew(member: Agent) -> Agent:
    """The agent with a temperature at which its samples differ: its own, or the paper's 0.7 if that is unset or 0."""
    return with_fields(member, temperature=member.temperature or 0.7, seed=None)


def reseeded(recipe: Recipe, *drawn_for: object, anew: bool) -> Recipe:
    """The recipe with a seed made from its own and `drawn_for`. With `anew`, the seeds of single agents are removed."""
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
    """The index of the output to take: the first one with the most frequent final answer.

    Final answers are counted only if the sample has a correct answer, since two essays never end in the same words.
    Otherwise the output that is most similar to the others is taken.
    """
    texts = [output.answers[-1] for output in outputs]
    if not sample.reference or sample.labels.get("kind") == "text":
        return most_alike(texts)
    ends = [choice(text) if sample.labels.get("kind") == "choice" else meaning(text) for text in texts]
    counts = Counter(end for end in ends if end not in (None, ""))
    return ends.index(counts.most_common(1)[0][0]) if counts else 0


def _fields(member: Agent) -> dict[str, Any]:
    return {field: getattr(member, field) for field in Agent.__struct_fields__ if field != "samples"}
