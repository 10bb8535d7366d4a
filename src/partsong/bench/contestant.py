"""A contestant of a study: a recipe that is run once for each answer, or several times with a vote over the answers.

Several answers of one model cost as much as one answer of a mixture. So a mixture is compared with the vote over
several answers of one model. Every run of a study has its own seed, so that the store never returns an answer that was
sampled for another run.
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
    """A recipe, and the number of times that it is run for each answer.

    samples: number of runs for each answer; 1 by default; with several, `voted` chooses one of the answers
    """

    recipe: Recipe
    samples: int = 1

    @property
    def calls(self) -> int:
        """Number of calls for one answer, without retries."""
        return self.recipe.calls * self.samples


def picking(name: str, member: Agent, count: int) -> Contestant:
    """Return a contestant in which one model answers `count` times, and then selects the best of its own answers.

    name: name of the contestant's recipe
    member: the model with its settings

    If the selecting call names no answer, the answer that is most similar to the others is taken.
    """
    chooser = Aggregator(
        member.model, temperature=0.0, max_tokens=member.max_tokens, fallback=member.fallback, method="select"
    )
    agent = with_fields(sampling_anew(member), samples=count)
    return Contestant(Recipe(name, (Layer((agent,)),), chooser, last_resort="best_proposal"))


def alone(name: str, member: Agent) -> Recipe:
    """Return a recipe without layers, in which `member` answers alone, with its settings but without its seed."""
    return Recipe(name, (), Aggregator(**_fields(with_fields(member, seed=None))))


def proposing(member: Agent) -> Agent:
    """Return an agent that proposes once, with the settings of `member`, which is an agent or an aggregator."""
    return Agent(**_fields(member))


def sampling_anew(member: Agent) -> Agent:
    """Return the agent without a seed, and with a temperature at which its samples differ.

    The temperature is the agent's own, or the paper's 0.7 if the agent's temperature is unset or 0.
    """
    return with_fields(member, temperature=member.temperature or 0.7, seed=None)


def reseeded(recipe: Recipe, *drawn_for: object, anew: bool) -> Recipe:
    """Return the recipe with a seed for one run: a digest of the recipe's own seed and of `drawn_for`.

    drawn_for: values that identify the run, such as sample and index of the attempt
    anew: whether the seeds of single agents are removed, because these seeds would repeat an earlier answer
    """
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
    """Return the index of the output that wins the vote: the first output with the most frequent final answer.

    Final answers are counted only if the sample has a reference and is not labelled `kind: text`, since two essays
    never end in the same words. Otherwise the output that is most similar to the others wins.
    """
    texts = [output.answers[-1] for output in outputs]
    if not sample.reference or sample.labels.get("kind") == "text":
        return most_alike(texts)
    ends = [choice(text) if sample.labels.get("kind") == "choice" else meaning(text) for text in texts]
    counts = Counter(end for end in ends if end not in (None, ""))
    return ends.index(counts.most_common(1)[0][0]) if counts else 0


def _fields(member: Agent) -> dict[str, Any]:
    return {field: getattr(member, field) for field in Agent.__struct_fields__ if field != "samples"}
