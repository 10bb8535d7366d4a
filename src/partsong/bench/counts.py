"""How the runs of a recipe that votes or agrees were decided, and how many seats were asked and spared."""

from collections.abc import Iterable

from msgspec import Struct

from partsong.recipe import Recipe
from partsong.transcript import Transcript


class Counts(Struct, frozen=True, omit_defaults=True):
    """Counts of some runs.

    runs: number of runs, failed ones included
    voted: number of runs whose answer a vote elected
    agreed: number of runs that ended because enough seats of a layer agreed
    asked: number of proposers' seats that were begun, in all runs
    spared: number of proposers' seats that were not needed, in all runs; some of them had begun
    """

    runs: int = 0
    voted: int = 0
    agreed: int = 0
    asked: int = 0
    spared: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*(getattr(self, name) + getattr(other, name) for name in self.__struct_fields__))


def counts_of(recipe: Recipe, transcript: Transcript) -> Counts | None:
    """Return the counts of one run that has ended; `None` for a recipe that neither votes nor agrees."""
    if recipe.aggregator.method != "vote" and all(layer.agree is None for layer in recipe.layers):
        return None
    decided = [count.rule for count in transcript.votes if count.seat is not None]
    asked = sum(seat.started for layer in transcript.layers for seat in layer)
    return Counts(1, decided.count("majority"), decided.count("agree"), asked, transcript.spared)


def added(counts: Iterable[Counts | None]) -> Counts | None:
    """Return the sum of the known counts; `None` if none is known."""
    known = [each for each in counts if each is not None]
    return sum(known, Counts()) if known else None


def sentence(recipe: Recipe, counts: Counts) -> str:
    """Return the counts in words, with the means of a run."""
    how = []
    if recipe.aggregator.method == "vote":
        how.append(f"a vote decided {counts.voted:,} of {counts.runs:,} runs")
    if any(layer.agree is not None for layer in recipe.layers):
        how.append(f"agreement ended {counts.agreed:,} of {counts.runs:,} runs")
    asked, spared = counts.asked / counts.runs, counts.spared / counts.runs
    return f"{recipe.name}: {', '.join(how)}; a run asked {asked:.2f} seats and spared {spared:.2f} on average"
