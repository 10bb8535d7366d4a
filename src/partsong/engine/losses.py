"""Collects the losses of a run, where it fell short of its recipe. In a strict recipe the first loss ends the run."""

from collections.abc import Iterator

from partsong.errors import ModelError
from partsong.events import Loss, LossKind
from partsong.recipe import Recipe


class Losses:
    """The losses of one run so far.

    strict: whether a loss ends the run
    planned: number of proposers' seats, dropped seats included
    answered: number of proposers' seats that have a proposal
    spared: number of proposers' seats that were not needed
    all: the losses, in the order in which they were noted
    """

    def __init__(self, recipe: Recipe, dropped: tuple[Loss, ...] = ()) -> None:
        self.strict = recipe.strict
        self.planned = sum(len(layer.seats) for layer in recipe.layers) + len(dropped)
        self.answered = self.spared = 0
        self.all = list(dropped)

    def __iter__(self) -> Iterator[Loss]:
        return iter(self.all)

    def add(
        self,
        layer: int,
        seat: int,
        model: str,
        error: ModelError,
        kind: LossKind = "failed",
        replaced_by: str = "",
    ) -> None:
        """Note a loss. Raises `ModelError` if the recipe is strict. See `Loss` for the parameters."""
        self.all.append(Loss(layer, seat, model, error.cause, str(error), kind, replaced_by))
        if self.strict:
            by = f", replaced by {replaced_by}" if replaced_by else ""
            raise ModelError(
                f"strict: ({layer}, {seat}) {model} {kind.replace('_', ' ')}{by}: {error}",
                error.cause,
                status=error.status,
            )
